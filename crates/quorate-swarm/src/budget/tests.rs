//! What budgets promise.

use proptest::prelude::*;
use quorate_base::{Millis, TaskId, Timestamp};

use super::usage::Meter;
use super::{Account, Amount, Budget, Extra, Ledger, Source, Unit};

fn task(number: usize) -> TaskId {
    TaskId::new(format!("t{number}")).unwrap()
}

fn none() -> Extra {
    Extra::default()
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

#[test]
fn a_launch_gets_what_the_tightest_account_has_left() {
    let budget = |tokens| Budget { tokens: Some(tokens), ..Budget::default() };
    let mut ledger = Ledger::new(budget(100), budget(1000), Timestamp(0), tokens(950));
    ledger.bound(&Account::Agent("a".into()), budget(70));
    assert_eq!(
        ledger.quote("a", &task(1), &budget(60), Source::Lines, &none()).unwrap().tokens,
        50,
        "the day has 50 left"
    );
    ledger.set_aside("a", &task(1), tokens(50));
    let refusal = ledger.quote("a", &task(2), &budget(60), Source::Lines, &none()).unwrap_err();
    assert_eq!((refusal.account, refusal.unit, refusal.spent), (Account::Day, Unit::Tokens, false));
    ledger.settle(Timestamp(1), &task(1), tokens(20));
    assert_eq!(ledger.quote("a", &task(2), &Budget::default(), Source::Lines, &none()).unwrap().tokens, 30);
    // Nothing of it is left, and nothing is set aside: nothing will come back.
    ledger.set_aside("a", &task(2), tokens(30));
    ledger.settle(Timestamp(2), &task(2), tokens(30));
    assert!(ledger.quote("a", &task(3), &Budget::default(), Source::Lines, &none()).unwrap_err().spent);
    // The next day has its own.
    ledger.settle(Timestamp(24 * 3600 * 1000 + 1), &task(9), Amount::default());
    assert_eq!(
        ledger.quote("a", &task(3), &Budget::default(), Source::Lines, &none()).unwrap().tokens,
        20,
        "the agent has 20 left"
    );
}

#[test]
fn a_launch_that_is_lost_has_spent_what_it_last_said() {
    let budget = Budget { tokens: Some(100), launches: Some(5), ..Budget::default() };
    let mut ledger = Ledger::new(budget, Budget::default(), Timestamp(0), Amount::default());
    ledger.set_aside("a", &task(1), Amount { tokens: 90, launches: 1, ..Amount::default() });
    ledger.report(&task(1), tokens(33));
    ledger.report(&task(1), tokens(12));
    ledger.settle(Timestamp(1), &task(1), Amount { launches: 1, ..Amount::default() });
    assert_eq!(ledger.spent(&Account::Run), Amount { tokens: 33, launches: 1, ..Amount::default() });
    assert_eq!(ledger.in_hand(&Account::Run), Amount::default());
}

#[derive(Debug, Clone)]
enum Step {
    Launch { task: usize, agent: usize, most: u64 },
    End { task: usize, share: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..12_usize, 0..3_usize, 1..60_u64).prop_map(|(task, agent, most)| Step::Launch {
            task,
            agent,
            most
        }),
        (0..12_usize, 0..=100_u64).prop_map(|(task, share)| Step::End { task, share }),
    ]
}

proptest! {
    #[test]
    fn nothing_is_spent_beyond_a_budget_by_one_unit(
        run in 1..200_u64, day in 1..200_u64, before in 0..100_u64, agents in prop::array::uniform3(1..150_u64),
        own in 1..80_u64, steps in prop::collection::vec(step(), 1..200),
    ) {
        let budget = |most| Budget {
            tokens: Some(most), cost_micros: Some(most * 3), agent_time: Some(Millis(most * 2)), ..Budget::default()
        };
        let spent = Amount { tokens: before, ..Amount::default() };
        let mut ledger = Ledger::new(budget(run), budget(day), Timestamp(0), spent);
        for (agent, most) in agents.iter().enumerate() {
            ledger.bound(&Account::Agent(format!("a{agent}")), budget(*most));
        }
        ledger.bound(&Account::Task(task(0)), budget(own));
        let mut out: std::collections::BTreeMap<usize, Amount> = Default::default();
        for step in steps {
            match step {
                Step::Launch { task: number, agent, most } if !out.contains_key(&number) => {
                    let agent = format!("a{agent}");
                    if let Ok(amount) = ledger.quote(&agent, &task(number), &budget(most), Source::Lines, &none()) {
                        prop_assert!(amount.tokens >= 1 && amount.tokens <= most);
                        ledger.set_aside(&agent, &task(number), amount);
                        out.insert(number, amount);
                    }
                }
                Step::End { task: number, share } => {
                    if let Some(amount) = out.remove(&number) {
                        let part = |unit| amount.of(unit) * share / 100;
                        let mut used = Amount::default();
                        Unit::ALL.into_iter().for_each(|unit| used.set(unit, part(unit)));
                        ledger.settle(Timestamp(1), &task(number), used);
                    }
                }
                Step::Launch { .. } => {}
            }
            for account in ledger.accounts() {
                let (budget, spent, out) = (ledger.budget(account), ledger.spent(account), ledger.in_hand(account));
                for unit in budget.units() {
                    let all = spent.of(unit) + out.of(unit);
                    let most = budget.of(unit).unwrap().max(if *account == Account::Day { before } else { 0 });
                    prop_assert!(all <= most, "{} has {} of {}", account, all, unit);
                }
            }
        }
        // What is not under way is not set aside.
        let left = out.values().fold(Amount::default(), |all, amount| all.plus(*amount));
        prop_assert_eq!(ledger.in_hand(&Account::Run), left);
    }

    #[test]
    fn usage_is_the_same_however_the_output_is_cut(cuts in prop::collection::vec(0..CLAUDE.len(), 0..20)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut meter = Meter::new(Source::Claude);
        let mut from = 0;
        for cut in cuts.into_iter().chain([CLAUDE.len()]) {
            meter.feed(&CLAUDE.as_bytes()[from..cut]);
            from = cut;
        }
        prop_assert_eq!(meter.used(), claude_used());
    }

    #[test]
    fn any_output_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), source in 0..5_usize) {
        let sources = [Source::None, Source::Claude, Source::Codex, Source::Opencode, Source::Lines];
        let mut meter = Meter::new(sources[source]);
        meter.feed(&bytes);
        meter.feed(b"\n");
        let _ = meter.used();
    }
}

const CLAUDE: &str = concat!(
    r#"{"type":"system","subtype":"init"}"#,
    "\n",
    r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":10,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":1}}}"#,
    "\n",
    r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","name":"Write"}],"usage":{"input_tokens":10,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":7}}}"#,
    "\n",
    "not JSON at all\n",
    r#"{"type":"assistant","message":{"id":"m2","content":[{"type":"tool_use"},{"type":"tool_use"}],"usage":{"input_tokens":5,"output_tokens":2}}}"#,
    "\n",
    r#"{"type":"result","subtype":"success","total_cost_usd":0.0123451,"usage":{"input_tokens":15,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":9}}"#,
    "\n",
);

fn claude_used() -> Amount {
    Amount { tokens: 1124, cost_micros: 12_346, tool_calls: 3, ..Amount::default() }
}

#[test]
fn each_kind_of_output_is_understood() {
    let used = |source, text: &str| {
        let mut meter = Meter::new(source);
        meter.feed(text.as_bytes());
        meter.used()
    };
    assert_eq!(used(Source::Claude, CLAUDE), claude_used());
    let codex = concat!(
        r#"{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":80,"output_tokens":20}}"#,
        "\n",
        r#"{"type":"item.completed","item":{"type":"command_execution"}}"#,
        "\n",
        r#"{"type":"item.completed","item":{"type":"agent_message"}}"#,
        "\n",
        r#"{"type":"turn.completed","usage":{"input_tokens":50,"output_tokens":5}}"#,
        "\n",
    );
    assert_eq!(used(Source::Codex, codex), Amount { tokens: 175, tool_calls: 1, ..Amount::default() });
    let opencode = concat!(
        r#"{"type":"step_finish","part":{"cost":0.5,"tokens":{"input":1,"output":2,"reasoning":3,"cache":{"read":4,"write":5}}}}"#,
        "\n",
        r#"{"type":"tool_use","part":{}}"#,
        "\n",
    );
    let expected = Amount { tokens: 15, cost_micros: 500_000, tool_calls: 1, ..Amount::default() };
    assert_eq!(used(Source::Opencode, opencode), expected);
    let lines = concat!(
        r#"{"quorate-usage":{"tokens":7}}"#,
        "\n",
        r#"{"quorate-usage":{"tokens":9,"cost-micros":1}}"#,
        "\n"
    );
    assert_eq!(used(Source::Lines, lines), Amount { tokens: 9, cost_micros: 1, ..Amount::default() });
    assert_eq!(used(Source::None, CLAUDE), Amount::default());
    // A line without an end is not a line yet, and one that is too long says nothing.
    assert_eq!(used(Source::Lines, r#"{"quorate-usage":{"tokens":7}}"#), Amount::default());
    let long = format!("{{\"quorate-usage\":{{\"tokens\":7}},\"x\":\"{}\"}}\n", "x".repeat(5 << 20));
    assert_eq!(used(Source::Lines, &(long + r#"{"quorate-usage":{"tokens":1}}"# + "\n")), tokens(1));
}

#[test]
fn messages_beyond_those_remembered_count_all_the_same() {
    let mut meter = Meter::new(Source::Claude);
    let line = |id: u64, tokens: u64| {
        format!(
            r#"{{"type":"assistant","message":{{"id":"{id}","content":[],"usage":{{"output_tokens":{tokens}}}}}}}"#
        ) + "\n"
    };
    for id in 0..5_000 {
        meter.feed(line(id, 1).as_bytes());
        // Told again, with more of it.
        meter.feed(line(id, 3).as_bytes());
    }
    assert_eq!(meter.used().tokens, 15_000);
}

#[test]
fn what_an_agent_does_not_tell_is_not_set_aside() {
    let mut ledger = Ledger::new(Budget::default(), Budget::default(), Timestamp(0), Amount::default());
    ledger.bound(&Account::Run, Budget { tokens: Some(10), launches: Some(2), ..Budget::default() });
    let most = Budget { launches: Some(1), ..Budget::default() };
    let silent = ledger.quote("a", &task(1), &most, Source::None, &none()).unwrap();
    assert_eq!((silent.tokens, silent.launches), (0, 1));
    ledger.set_aside("a", &task(1), silent);
    let other = ledger.quote("b", &task(2), &most, Source::Lines, &none()).unwrap();
    assert_eq!(other.tokens, 10, "the silent one holds nothing back");
}

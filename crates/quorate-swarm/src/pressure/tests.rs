//! What the breaker does and does not do, in samples drawn at random and in a few that were not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_base::{ByteCount, Millis, TaskId};

use super::{Action, AgentMemory, Bound, Breaker, Growth, Level, Sample};

const WARN: Bound = Bound::Percent(20);
const CRITICAL: Bound = Bound::Percent(10);
const TICK: u64 = 100;

fn task(n: u64) -> TaskId {
    TaskId::new(format!("t{n}")).unwrap()
}

fn agent(n: u64, resident: u64) -> AgentMemory {
    AgentMemory { task: task(n), since: Millis(n), resident: ByteCount(resident) }
}

/// A machine with 1000 bytes.
fn sample(now: u64, available: u64, agents: &[AgentMemory]) -> Sample {
    Sample {
        now: Millis(now),
        total: ByteCount(1000),
        available: ByteCount(available),
        bound: None,
        waiting: None,
        node: ByteCount(1),
        agents: agents.to_vec(),
    }
}

/// Every action of a breaker that sees the same sample at every tick of a stretch of time.
fn hold(
    breaker: &mut Breaker,
    from: u64,
    to: u64,
    available: u64,
    agents: &[AgentMemory],
) -> Vec<(u64, Action)> {
    let ticks = (from..to).step_by(usize::try_from(TICK).unwrap());
    let act =
        |now| breaker.take(&sample(now, available, agents)).into_iter().map(move |action| (now, action));
    ticks.flat_map(act).collect()
}

fn agent_actions(actions: &[(u64, Action)]) -> Vec<(u64, String)> {
    let name = |action: &Action| match action {
        Action::Level { .. } => None,
        Action::Pause { task, .. } => Some(format!("pause {task}")),
        Action::Stop { task, .. } => Some(format!("stop {task}")),
        Action::Resume { task } => Some(format!("resume {task}")),
    };
    actions.iter().filter_map(|(at, action)| Some((*at, name(action)?))).collect()
}

fn levels(actions: &[(u64, Action)]) -> Vec<(u64, Level)> {
    let level = |(at, action): &(u64, Action)| match action {
        Action::Level { to, .. } => Some((*at, *to)),
        _ => None,
    };
    actions.iter().filter_map(level).collect()
}

#[test]
fn the_youngest_is_paused_then_stopped_then_the_next() {
    let mut breaker = Breaker::new(WARN, CRITICAL);
    let agents = [agent(1, 100), agent(2, 100), agent(3, 100)];
    let mut actions = hold(&mut breaker, 0, 5000, 50, &agents);
    assert_eq!(levels(&actions), [(0, Level::Critical)]);
    // The stopped one is gone.
    actions.extend(hold(&mut breaker, 5000, 9000, 50, &agents[..2]));
    let told = agent_actions(&actions);
    assert_eq!(
        told,
        [
            (0, "pause t3".into()),
            (3000, "stop t3".into()),
            (5000, "pause t2".into()),
            (8000, "stop t2".into())
        ]
    );
}

#[test]
fn who_holds_more_than_half_goes_before_the_youngest() {
    let mut breaker = Breaker::new(WARN, CRITICAL);
    let actions = hold(&mut breaker, 0, 100, 50, &[agent(1, 500), agent(2, 100), agent(3, 100)]);
    assert_eq!(agent_actions(&actions), [(0, "pause t1".into())]);
    let mut breaker = Breaker::new(WARN, CRITICAL);
    let actions = hold(&mut breaker, 0, 100, 50, &[agent(1, 200), agent(2, 100), agent(3, 100)]);
    assert_eq!(agent_actions(&actions), [(0, "pause t3".into())]);
}

#[test]
fn a_level_is_left_slowly_and_only_when_it_is_better_by_a_quarter() {
    let mut breaker = Breaker::new(WARN, CRITICAL);
    let agents = [agent(1, 100), agent(2, 90)];
    assert_eq!(levels(&hold(&mut breaker, 0, 1000, 90, &agents)), [(0, Level::Critical)]);
    assert_eq!(levels(&hold(&mut breaker, 1000, 20_000, 124, &agents)), []);
    assert_eq!(levels(&hold(&mut breaker, 20_000, 30_000, 126, &agents)), [(23_000, Level::Warn)]);
    assert_eq!(levels(&hold(&mut breaker, 30_000, 40_000, 249, &agents)), []);
    let eased = hold(&mut breaker, 40_000, 50_000, 251, &agents);
    assert_eq!(levels(&eased), [(43_000, Level::Open)]);
    assert_eq!(agent_actions(&eased), [(43_000, "resume t1".into())]);
}

#[test]
fn a_lone_paused_agent_goes_on_while_memory_is_short_and_is_stopped_the_second_time() {
    let mut breaker = Breaker::new(WARN, CRITICAL);
    let agents = [agent(1, 100)];
    assert_eq!(agent_actions(&hold(&mut breaker, 0, 1000, 50, &agents)), [(0, "pause t1".into())]);
    assert_eq!(agent_actions(&hold(&mut breaker, 1000, 6000, 150, &agents)), [(4000, "resume t1".into())]);
    assert_eq!(agent_actions(&hold(&mut breaker, 6000, 6100, 50, &agents)), [(6000, "stop t1".into())]);
}

#[test]
fn the_nodes_own_bound_counts_like_the_machines() {
    let mut breaker = Breaker::new(WARN, CRITICAL);
    let bounded = Sample { bound: Some((ByteCount(200), ByteCount(190))), ..sample(0, 900, &[]) };
    let actions: Vec<_> = breaker.take(&bounded).into_iter().map(|action| (0, action)).collect();
    assert_eq!(levels(&actions), [(0, Level::Critical)]);
}

#[test]
fn waiting_for_memory_warns_and_makes_critical_what_is_short() {
    let level = |available, waiting| {
        let mut breaker = Breaker::new(WARN, CRITICAL);
        breaker.take(&Sample { waiting: Some(waiting), ..sample(0, available, &[]) });
        breaker.level()
    };
    assert_eq!(level(900, (3999, 3999)), Level::Open);
    assert_eq!(level(900, (4000, 4000)), Level::Warn);
    assert_eq!(level(150, (4000, 1999)), Level::Warn);
    assert_eq!(level(150, (4000, 2000)), Level::Critical);
}

#[derive(Debug, Clone)]
struct Moment {
    after: u64,
    available: u64,
    waiting: Option<(u32, u32)>,
    /// For each of six agents, whether it is there, and its memory.
    agents: Vec<Option<u64>>,
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let moment = (
        1_u64..2000,
        0_u64..400,
        prop::option::of((0_u32..6000, 0_u32..4000)),
        prop::collection::vec(prop::option::weighted(0.8, 0_u64..1000), 6),
    );
    let moment =
        moment.prop_map(|(after, available, waiting, agents)| Moment { after, available, waiting, agents });
    prop::collection::vec(moment, 1..120)
}

proptest! {
    #[test]
    fn whatever_happens_the_order_is_kept(moments in moments()) {
        let mut breaker = Breaker::new(WARN, CRITICAL);
        let (mut paused, mut stopped, mut once) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut now = 0;
        for moment in moments {
            now += moment.after;
            let agents: Vec<_> = moment
                .agents
                .iter()
                .zip(1..)
                .filter_map(|(resident, n)| Some(agent(n, (*resident)?)))
                .collect();
            let there: BTreeSet<_> = agents.iter().map(|agent| agent.task.clone()).collect();
            paused.retain(|task| there.contains(task));
            stopped.retain(|task| there.contains(task));
            once.retain(|task| there.contains(task));
            let critical = moment.available < 100
                || moment.available < 200 && moment.waiting.is_some_and(|(_, full)| full >= 2000);
            let before = breaker.level();
            let actions =
                breaker.take(&Sample { waiting: moment.waiting, ..sample(now, moment.available, &agents) });
            let running: u64 = agents
                .iter()
                .filter(|agent| !paused.contains(&agent.task) && !stopped.contains(&agent.task))
                .map(|agent| agent.resident.0)
                .sum();
            let changes = actions.iter().filter(|action| matches!(action, Action::Level { .. })).count();
            prop_assert!(changes <= 1 && actions.len() <= changes + 1);
            prop_assert!(breaker.level() >= before || breaker.level() as u8 + 1 == before as u8);
            prop_assert!(!critical || breaker.level() == Level::Critical);
            for action in actions {
                match action {
                    Action::Level { to, .. } => prop_assert!(to == breaker.level() && to != before),
                    Action::Pause { task, .. } => {
                        prop_assert!(critical && there.contains(&task) && !stopped.contains(&task));
                        // More than half, or nobody younger.
                        let victim = agents.iter().find(|agent| agent.task == task).unwrap();
                        let younger = agents.iter().any(|agent| {
                            agent.since > victim.since
                                && !paused.contains(&agent.task)
                                && !stopped.contains(&agent.task)
                        });
                        prop_assert!(!younger || victim.resident.0 > running / 2);
                        prop_assert!(!once.contains(&task) && paused.insert(task));
                    }
                    Action::Stop { task, .. } => {
                        prop_assert!(critical && there.contains(&task));
                        prop_assert!(paused.contains(&task) || once.contains(&task));
                        prop_assert!(stopped.insert(task));
                    }
                    Action::Resume { task } => {
                        prop_assert!(!critical && !stopped.contains(&task));
                        prop_assert!(paused.remove(&task));
                        once.insert(task);
                    }
                }
            }
        }
        // When there is memory again, everybody who was not stopped goes on.
        let agents: Vec<_> = (1..=6).filter(|n| !stopped.contains(&task(*n))).map(|n| agent(n, 10)).collect();
        let actions = hold(&mut breaker, now, now + 30_000, 900, &agents);
        for (_, action) in &actions {
            if let Action::Resume { task } = action {
                paused.remove(task);
            }
        }
        prop_assert_eq!(breaker.level(), Level::Open);
        prop_assert!(paused.is_subset(&stopped), "{:?}", paused);
        prop_assert_eq!(hold(&mut breaker, now + 30_000, now + 60_000, 900, &agents), []);
    }

    #[test]
    fn a_leak_is_seen_through_noise_and_one_wild_sample_in_eight(
        per_second in 200_000_u64..5_000_000,
        noise in prop::collection::vec((0_u64..400_000, 0_u8..8, 0_u64..4_000_000_000), 60),
    ) {
        let mut growth = Growth::default();
        for (second, (jitter, wild, anywhere)) in (0..).zip(&noise) {
            let resident = if *wild == 0 && second % 8 == 3 { *anywhere } else { second * per_second + jitter };
            growth.take(Millis::from_secs(second), ByteCount(resident));
        }
        let trend = growth.trend();
        prop_assert!(trend.is_some());
        let (found, real) = (trend.unwrap().per_minute.0 as f64, per_second as f64 * 60.0);
        prop_assert!((found / real - 1.0).abs() < 0.1, "{} for {}", found, real);
    }

    #[test]
    fn noise_around_a_level_and_shrinking_are_no_growth(
        noise in prop::collection::vec(0_u64..100_000_000, 90),
        shrink in 0_u64..1_000_000,
    ) {
        let mut growth = Growth::default();
        for (second, jitter) in (0..).zip(&noise) {
            growth.take(Millis::from_secs(second), ByteCount(1_000_000_000 + jitter - shrink * second));
        }
        prop_assert_eq!(growth.trend(), None);
    }
}

#[test]
fn a_program_that_starts_and_then_stays_is_not_growing() {
    let mut growth = Growth::default();
    for second in 0..120_u64 {
        growth.take(Millis::from_secs(second), ByteCount(second.min(20) * 10_000_000));
        if second > 45 {
            assert_eq!(growth.trend(), None, "{second}");
        }
    }
}

#[test]
fn a_leak_of_a_mebibyte_a_second_is_foreseen_within_a_minute() {
    let mut growth = Growth::default();
    let mut foreseen = None;
    for second in 0..60_u64 {
        growth.take(Millis::from_secs(second), ByteCount::mib(100 + second));
        if let Some(trend) = growth.trend().filter(|_| foreseen.is_none()) {
            foreseen = Some((second, trend.passes_in(ByteCount::mib(1000))));
        }
    }
    let (second, passes_in) = foreseen.unwrap();
    assert!(second < 60 && passes_in > Millis::from_secs(850) && passes_in < Millis::from_secs(870));
}

#[test]
fn an_amount_of_memory_reads_back_what_it_writes() {
    for text in ["1%", "99%", "512MiB"] {
        assert_eq!(text.parse::<Bound>().unwrap().to_string(), text);
    }
    for text in ["0%", "100%", "1.5%", "%", "", "12"] {
        assert!(text.parse::<Bound>().is_err(), "{text}");
    }
    assert_eq!(Bound::Percent(10).of(ByteCount(1000)), ByteCount(100));
}

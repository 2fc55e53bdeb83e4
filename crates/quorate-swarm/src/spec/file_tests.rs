use super::*;

const AGENT: &str = "[agents.a]\nprogram = \"true\"\n";

fn read(text: &str) -> Result<SwarmFile, Error> {
    let checks = [(
        "secrets".to_owned(),
        CheckEntry {
            validator: ValidatorId::new("security").unwrap(),
            spec: CheckSpec::Builtin { name: "secrets".to_owned() },
        },
    )];
    parse("swarm.toml", text, &checks.into())
}

#[track_caller]
fn refused(text: &str, line: &str, needles: &[&str]) {
    let message = read(text).unwrap_err().to_string();
    assert!(message.contains(line), "no {line} in:\n{message}");
    for needle in needles {
        assert!(message.contains(needle), "no {needle} in:\n{message}");
    }
}

#[test]
fn a_minimal_file_gets_the_default_panel_and_a_task_an_agent() {
    let file = read(&format!("objective = \"tidy\"\n{AGENT}count = 2\n")).unwrap();
    assert_eq!(file.spec.gate.validators.len(), 5);
    assert_eq!((file.spec.gate.faults, file.spec.gate.agree), (1, 4));
    let ids: Vec<_> = file.spec.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["a-1", "a-2"]);
}

#[test]
fn mistakes_point_at_their_line_and_say_what_is_allowed() {
    refused(
        "objective = \"x\"\n[swarm]\nagents-at-onc = 3\n",
        "line 3",
        &["unknown field", "agents-at-once"],
    );
    refused(&format!("objective = \"x\"\n{AGENT}role = \"boss\"\n"), "line 4", &["boss", "architect"]);
    refused(&format!("objective = \"x\"\n{AGENT}args = [\"{{who}}\"]\n"), ":4:", &["{who}", "worktree"]);
    refused(&format!("objective = \"x\"\n{AGENT}count = 0\n"), ":4:", &["`count` is 0", "1 to 1000"]);
    refused(
        &format!("objective = \"x\"\n{AGENT}[[tasks]]\nid = \"t\"\nagent = \"b\"\n"),
        ":6:",
        &["no agent `b`", "agents are a"],
    );
    refused(
        &format!("objective = \"x\"\n{AGENT}limits = {{ memory = \"lots\" }}\n"),
        "line 4",
        &["lots", "512MiB"],
    );
    refused(AGENT, ":1:", &["no `objective`"]);
    refused("objective = \"x\"\n", ":1:", &["no agent"]);
    refused("objective = \n", "line 1", &[]);
}

#[test]
fn a_limit_out_of_its_range_points_at_its_line() {
    let with = |limit: &str| format!("objective = \"x\"\n{AGENT}[agents.a.limits]\n{limit}\n");
    for (limit, needles) in [
        ("processes = 3", ["`processes` is 3", "4 to 1000000"]),
        ("open-files = 5", ["`open-files` is 5", "16 to 1048576"]),
        ("cpus = 0", ["`cpus` is 0", "0.01 to 1024"]),
        ("cpus = nan", ["`cpus` is NaN", "0.01 to 1024"]),
        ("disk = \"4KiB\"", ["`disk` is 4.0 KiB", "1MiB and more"]),
        ("idle = \"5ms\"", ["`idle` is 5ms", "off"]),
        ("idle = \"never\"", ["`never` is not a duration", "off"]),
    ] {
        refused(&with(limit), ":5:", &needles);
    }
    let text = with("processes = 99\nopen-files = 64\ncpus = 1.5\ndisk = \"2 GiB\"\nidle = \"off\"");
    let limits = read(&text).unwrap().spec.agents["a"].limits;
    assert_eq!((limits.processes, limits.open_files, limits.cpus), (99, 64, Some(1500)));
    assert_eq!((limits.disk, limits.idle), (ByteCount::mib(2048), None));
    assert_eq!(read(&with("")).unwrap().spec.agents["a"].limits, LIMITS_DEFAULT);
}

#[test]
fn the_nodes_thresholds_are_shares_or_sizes_in_order() {
    let with = |lines: &str| format!("objective = \"x\"\n{AGENT}[node]\n{lines}\n");
    refused(&with("memory-warn = \"lots\""), "line 5", &["`lots` is no amount of memory", "2GiB"]);
    refused(&with("memory-critical = \"15%\""), ":5:", &["`memory-critical` is 15%", "less than"]);
    refused(&with("memory-warn = \"1GiB\"\nmemory-critical = \"2GiB\""), ":6:", &["2GiB"]);
    let node = read(&with("memory-warn = \"30%\"\nmemory-critical = \"1GiB\"")).unwrap().spec.node;
    let expect =
        NodeSpec { memory_warn: Bound::Percent(30), memory_critical: Bound::Bytes(ByteCount::mib(1024)) };
    assert_eq!(node, expect);
    assert_eq!(read(&with("")).unwrap().spec.node, NodeSpec::default());
}

#[test]
fn limits_of_an_older_journal_get_the_defaults_and_no_idle_time() {
    let old = r#"{"wall":"30m","memory":"4GiB","cpu":"1h","output":"256MiB"}"#;
    let limits: AgentLimits = serde_json::from_str(old).unwrap();
    assert_eq!(limits, AgentLimits { idle: None, ..LIMITS_DEFAULT });
}

#[test]
fn an_impossible_combination_is_refused_when_the_file_is_read() {
    for gate in ["agree = 3", "agree = 6", "agree = 5", "faults = 2", "validators = [\"a\", \"a\"]"] {
        refused(&format!("objective = \"x\"\n{AGENT}[gate]\n{gate}\n"), ":5:", &[]);
    }
    let alone = format!("objective = \"x\"\n{AGENT}[gate]\nvalidators = [\"security\"]\n");
    assert_eq!(read(&alone).unwrap().spec.gate.agree, 1);
}

#[test]
fn a_check_belongs_to_a_validator_of_the_panel_and_does_one_thing() {
    let with = |check: &str| format!("objective = \"x\"\n{AGENT}[checks.c]\n{check}\n");
    refused(&with("validator = \"nobody\"\nbuiltin = \"secrets\""), ":5:", &["not on the panel", "security"]);
    refused(&with("validator = \"tests\""), ":4:", &["one of `command` and `builtin`"]);
    refused(&with("validator = \"tests\"\nbuiltin = \"magic\""), ":6:", &["magic", "secrets"]);
    refused(&with("validator = \"tests\"\ncommand = []"), ":6:", &["no command"]);
}

#[test]
fn a_tasks_leases_are_read_in_the_order_in_which_they_are_taken() {
    let with = |leases: &str| {
        format!("objective = \"x\"\n{AGENT}[[tasks]]\nid = \"t\"\nagent = \"a\"\nleases = [{leases}]\n")
    };
    let task = read(&with("\"name:db\", \"read:file:b\", \"folder:./docs/\", \"file:b\""))
        .unwrap()
        .spec
        .tasks
        .remove(0);
    let leases: Vec<String> = task.leases.iter().map(ToString::to_string).collect();
    assert_eq!(leases, ["file:b", "folder:docs", "name:db"]);
    refused(&with("\"src/lib.rs\""), ":7:", &["names no lease", "file:src/lib.rs"]);
    refused(&with("\"file:../x\""), ":7:", &["stays below"]);
}

#[test]
fn what_worktrees_come_with_is_checked_where_it_is_written() {
    let with = |line: &str| format!("objective = \"x\"\n{AGENT}[worktree]\n{line}\n");
    assert_eq!(read(&with("ports-each = 3")).unwrap().spec.worktree.ports_each, 3);
    refused(&with("ports = \"9000\""), ":5:", &["no range", "20000-29999"]);
    refused(&with("caches = [\"maven\"]"), ":5:", &["maven", "cargo, npm, pip"]);
    refused(&with("prots = 1"), "line 5", &["prots", "ports-each"]);
}

#[test]
fn what_an_older_quorate_wrote_down_can_still_be_read() {
    let text = format!("objective = \"x\"\n{AGENT}[[tasks]]\nid = \"t\"\nagent = \"a\"\n");
    let spec = read(&text).unwrap().spec;
    let mut old = serde_json::to_value(&spec).unwrap();
    for later in ["worktree", "schedule", "budget"] {
        old.as_object_mut().unwrap().remove(later).unwrap();
    }
    for later in ["fleet", "retry", "budget", "launch_budget", "usage"] {
        old["agents"]["a"].as_object_mut().unwrap().remove(later).unwrap();
    }
    assert_eq!(old["tasks"][0].as_object().unwrap().len(), 4, "{old:#}");
    assert_eq!(serde_json::from_value::<RunSpec>(old).unwrap(), spec);
}

#[test]
fn a_circle_of_tasks_is_refused() {
    let task =
        |id: &str, after: &str| format!("[[tasks]]\nid = \"{id}\"\nagent = \"a\"\nafter = [\"{after}\"]\n");
    let circle = format!("objective = \"x\"\n{AGENT}{}{}", task("one", "two"), task("two", "one"));
    refused(&circle, ":5:", &["waits for itself"]);
    refused(&format!("objective = \"x\"\n{AGENT}{}", task("one", "three")), ":7:", &["no task `three`"]);
}

#[test]
fn every_check_is_run_by_one_validator_more_than_may_be_faulty() {
    for (n, faults) in [(1, 0), (4, 1), (5, 1), (7, 2), (10, 3)] {
        let names: Vec<String> = (0..n).map(|i| format!("\"v{i}\"")).collect();
        let checks: String =
            (0..n).map(|i| format!("[checks.c{i}]\nvalidator = \"v{i}\"\nbuiltin = \"secrets\"\n")).collect();
        let text = format!(
            "objective = \"x\"\n{AGENT}[gate]\nvalidators = [{}]\nfaults = {faults}\n{checks}",
            names.join(",")
        );
        let spec = read(&text).unwrap().spec;
        for check in spec.checks.keys() {
            let runners = spec.gate.validators.iter().filter(|v| spec.assignment(v).contains(check)).count();
            assert_eq!(runners, faults + 1, "{check} of {n}");
        }
    }
}

#[test]
fn placeholders_fill_once_and_never_from_a_value() {
    let value = |name: &str| match name {
        "objective" => Some("write {task} $(rm -rf /)".to_owned()),
        "task" => Some("t".to_owned()),
        _ => None,
    };
    assert_eq!(fill("do: {objective}!", value), "do: write {task} $(rm -rf /)!");
    assert_eq!(fill("{{task} {\"json\": {}} {task}", value), "{task} {\"json\": {}} t");
    assert_eq!(placeholders("{task} {{no} {\"j\":1} {odd"), ["task"]);
}

#[test]
fn the_example_in_the_documents_is_what_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/swarm-file.md");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let spec = parse("swarm-file.md", example, &BTreeMap::new()).unwrap().spec;
    assert_eq!((spec.tasks.len(), spec.agents.len(), spec.agents_at_once), (3, 2, 8));
    let usual =
        parse("x", "objective = \"x\"\n[agents.a]\nprogram = \"a\"\n", &BTreeMap::new()).unwrap().spec;
    let agent = &usual.agents["a"];
    // The defaults of its tables.
    assert_eq!(
        (usual.agents_at_once, usual.wall, usual.schedule),
        (4, Millis::from_secs(4 * 3600), Schedule::Priority)
    );
    assert_eq!(
        (agent.attempts, agent.retry.backoff, agent.retry.backoff_max),
        (1, Millis(500), Millis::from_secs(60))
    );
    let worktree = &usual.worktree;
    assert_eq!((worktree.ports.first, worktree.ports.last, worktree.ports_each), (20_000, 29_999, 10));
    assert_eq!((worktree.include_max, worktree.caches.len()), (ByteCount::mib(256), 0));
}

fn sandbox(lines: &str) -> Option<SandboxSpec> {
    let file = read(&format!("objective = \"x\"\n[agents.a]\n{lines}")).unwrap();
    file.spec.agents["a"].sandbox.clone()
}

#[test]
fn an_agent_is_enclosed_unless_the_file_says_otherwise() {
    let plain = sandbox("program = \"true\"\n").unwrap();
    assert_eq!(plain, SandboxSpec::default());
    assert_eq!((plain.network, plain.require.len()), (Network::Off, 2));
    let cli = sandbox("preset = \"claude\"\n").unwrap();
    assert_eq!(cli.network, Network::Listed);
    assert!(cli.hosts.contains(&"api.anthropic.com".to_owned()));
    assert!(cli.own.contains(&"~/.claude/".to_owned()) && cli.write.is_empty());
    let more = sandbox(
        "preset = \"codex\"\n[agents.a.sandbox]\nread = [\"fixtures\"]\nwrite = [\"~/out\"]\nnetwork = \"off\"\nrequire = [\"namespaces\"]\n",
    );
    let more = more.unwrap();
    assert_eq!((more.read, more.write), (vec!["fixtures".to_owned()], vec!["~/out".to_owned()]));
    assert_eq!((more.network, more.require), (Network::Off, vec![SandboxLayer::Namespaces]));
    assert!(more.own.contains(&"~/.codex/".to_owned()));
    assert_eq!(sandbox("program = \"true\"\nsandbox = { enabled = false }\n"), None);
}

#[test]
fn mistakes_in_a_sandbox_point_at_their_line_and_say_what_is_allowed() {
    let with = |line: &str| format!("objective = \"x\"\n{AGENT}[agents.a.sandbox]\n{line}\n");
    refused(&with("network = \"some\""), ":5:", &["no network `some`", "off, loopback, listed, open"]);
    refused(&with("require = [\"chroot\"]"), ":5:", &["`chroot`", "landlock, seccomp, namespaces"]);
    refused(&with("read = [\"\"]"), ":5:", &["no path", "~/data"]);
    refused(&with("enabled = false\nwrite = [\"x\"]"), ":5:", &["holds nothing"]);
    refused(&with("execute = [\"x\"]"), "line 5", &["unknown field", "network"]);
}

#[test]
fn a_list_of_hosts_is_on_top_of_the_preset_s_and_stands_only_beside_a_listed_network() {
    let own = sandbox("program = \"x\"\n[agents.a.sandbox]\nnetwork = \"listed\"\nhosts = [\"*.crates.io\", \"$MODEL_URL\"]\n").unwrap();
    assert_eq!(
        (own.network, own.hosts),
        (Network::Listed, vec!["*.crates.io".to_owned(), "$MODEL_URL".to_owned()])
    );
    let more = sandbox("preset = \"claude\"\n[agents.a.sandbox]\nhosts = [\"static.crates.io\"]\n").unwrap();
    assert_eq!(more.network, Network::Listed);
    assert!(more.hosts.contains(&"api.anthropic.com".to_owned()));
    assert!(more.hosts.contains(&"static.crates.io".to_owned()));
    let open = sandbox("preset = \"claude\"\n[agents.a.sandbox]\nnetwork = \"open\"\n").unwrap();
    assert_eq!((open.network, open.hosts.len()), (Network::Open, 0));
    // A CLI that may be told to use any model.
    assert_eq!(sandbox("preset = \"opencode\"\n").unwrap().network, Network::Open);
}

#[test]
fn mistakes_in_a_list_of_hosts_point_at_their_line() {
    let with = |line: &str| format!("objective = \"x\"\n{AGENT}[agents.a.sandbox]\n{line}\n");
    let listed = |hosts: &str| with(&format!("network = \"listed\"\nhosts = [{hosts}]"));
    refused(&with("hosts = [\"a.b\"]"), ":5:", &["network is `off`", "network = \"listed\""]);
    refused(&with("network = \"open\"\nhosts = [\"a.b\"]"), ":6:", &["network is `open`"]);
    refused(&with("network = \"listed\""), ":5:", &["no host is", "hosts = ["]);
    refused(&listed(""), ":6:", &["no host is"]);
    refused(&listed("\"https://a.b\""), ":6:", &["https://a.b", "*.example.com"]);
    refused(&listed("\"a.b\",\n\"*\""), ":7:", &["a star stands alone"]);
    refused(&listed("\"$\""), ":6:", &["no name of a variable"]);
    refused(&listed("\"a.b:0\""), ":6:", &["the port is not a number from 1 to 65535"]);
    refused(&with("enabled = false\nhosts = [\"a.b\"]"), ":5:", &["holds nothing"]);
    let proxy = "objective = \"x\"\n[agents.a]\nprogram = \"true\"\nenv = [\"PATH\", \"https_proxy\"]\n[agents.a.sandbox]\nnetwork = \"listed\"\nhosts = [\"a.b\"]\n";
    refused(proxy, ":2:", &["`https_proxy` is passed on", "Quorate sets it"]);
    let gate = format!("objective = \"x\"\n{AGENT}[gate.sandbox]\nnetwork = \"listed\"\nhosts = [\"a.b\"]\n");
    refused(&gate, ":5:", &["a check has no list of hosts", "loopback"]);
}

#[test]
fn a_preset_s_own_sandbox_is_left_to_it_where_there_is_no_other() {
    let args = |more: &str| {
        let text = format!("objective = \"x\"\n[agents.a]\npreset = \"codex\"\n{more}");
        read(&text).unwrap().spec.agents["a"].args.join(" ")
    };
    assert!(args("").contains("-s danger-full-access"));
    assert!(args("sandbox = { enabled = false }\n").contains("-s workspace-write"));
}

#[test]
fn the_hosts_of_every_preset_stand_in_the_swarm_file_s_description() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/swarm-file.md");
    let text = std::fs::read_to_string(path).unwrap();
    for preset in &presets::PRESETS {
        let row =
            text.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{}`", preset.name)));
        let row = row.unwrap_or_else(|| panic!("{} has no row", preset.name));
        let rows = text
            .lines()
            .filter(|line| line.starts_with("| ") && line.contains(&format!("`{}`", preset.name)));
        for host in preset.hosts {
            assert!(hosts::check(host).is_ok(), "{host}");
            assert!(rows.clone().any(|row| row.contains(&format!("`{host}`"))), "{host}: {row}");
        }
    }
}

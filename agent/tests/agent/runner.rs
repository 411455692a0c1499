//! The runner process, driven as the daemon drives it: through the real binary and real sockets.

use std::time::{Duration, Instant};

use crate::rig::{self, Rig, call_unix, exe, file_of, infer, int, load_request, model_file, next, text};
use muster_agent::runner::{Command, Event, RunnerProcess};
use serde_json::json;
use shared::{
    MetricName,
    device::{Hardening, HardeningLevel},
    telemetry::{CustomKind, CustomMetrics, CustomSums, Sums},
};

#[tokio::test]
async fn a_model_answers_json_and_binary_over_tcp_and_unix() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(2.0)).await;
    rig.switch(1).await;

    let answer = infer(&rig.tcp, json!([[1.5, -2.0]])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!((text(&body["model_name"]), text(&body["model_version"])), ("m", "1"));
    assert_eq!(body["outputs"][0]["data"], json!([3.0, -4.0]));
    assert!(!text(&body["id"]).is_empty(), "an inference without an id gets one");

    let header = json!({ "id": "mine", "parameters": { "binary_data_output": true }, "inputs": [
        { "name": "x", "shape": [2], "datatype": "FP32", "parameters": { "binary_data_size": 8 } } ] });
    let header = header.to_string();
    let mut body = header.clone().into_bytes();
    body.extend([1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()));
    let headers = [("inference-header-content-length", header.len().to_string())];
    let answer = rig::post(&rig.tcp, "/v2/models/m/infer", &headers, body).await;
    let json_length: usize =
        answer.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&answer.body[..json_length]).unwrap();
    assert_eq!((text(&body["id"]), int(&body["outputs"][0]["parameters"]["binary_data_size"])), ("mine", 8));
    let expected: Vec<u8> = [2.0_f32, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(answer.body[json_length..], expected);

    for path in [
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/m",
        "/v2/models/m/versions/1/ready",
        "/v2/models/stats",
        "/v2/models/m/config",
    ] {
        assert_eq!(call_unix(&rig.unix, "GET", path, vec![]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn errors_are_json_with_a_string_error_and_the_right_status() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(2.0)).await;
    rig.switch(1).await;
    let cases = [
        ("/v2/models/nobody/infer", json!({ "inputs": [] }), 404),
        ("/v2/models/m/versions/7/infer", json!({ "inputs": [] }), 404),
        ("/v2/models/m/infer", json!({ "inputs": "none" }), 400),
        ("/v2/models/m/infer", rig::request(json!([1, 2, 3])), 400),
        ("/v2/models/m/infer", json!({ "inputs": [{ "name": "x", "shape": [2], "datatype": "FP32" }] }), 400),
        ("/v2/repository/models/m/load", json!({}), 403),
        ("/muster/v1/feedback", json!({ "model": "m", "id": "unknown", "label": 1 }), 404),
    ];
    for (path, body, status) in cases {
        let answer = rig::post(&rig.tcp, path, &[], body.to_string().into()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.json()["error"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn a_swap_under_load_fails_no_request() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(1.0)).await;
    rig.switch(1).await;
    let (stop, tcp) = (tokio_util::sync::CancellationToken::new(), rig.tcp);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut versions = std::collections::BTreeSet::new();
                while !stop.is_cancelled() {
                    let answer = infer(&tcp, json!([1.0, 2.0])).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let body = answer.json();
                    let version: f64 = text(&body["model_version"]).parse().unwrap();
                    assert_eq!(
                        body["outputs"][0]["data"],
                        json!([version, 2.0 * version]),
                        "one version answers whole"
                    );
                    versions.insert(version.to_string());
                }
                versions.len()
            })
        })
        .collect();
    for version in 2..=12_u32 {
        rig.load(version, rig::scale(f32::from(u8::try_from(version).unwrap()))).await;
        rig.switch(version).await;
        rig.unload(version - 1).await;
    }
    stop.cancel();
    for caller in callers {
        assert!(caller.await.unwrap() >= 1);
    }
}

#[tokio::test]
async fn a_nan_is_an_error_to_the_caller_and_told_to_the_daemon_at_once() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::divide_by_itself()).await;
    rig.switch(1).await;
    let answer = infer(&rig.tcp, json!([0.0, 1.0])).await;
    assert_eq!(answer.status, 500);
    assert!(text(&answer.json()["error"]).contains("NaN or infinite"));
    let asked = Instant::now();
    let Event::Observed(figures) = next(&mut rig.events).await else { panic!("no figures") };
    assert_eq!((figures.counts.non_finite, figures.counts.ok), (1, 0));
    assert_eq!(figures.latency_ms.count(), 1);
    assert!(asked.elapsed() < Duration::from_millis(900), "a failure does not wait for the interval");
}

#[tokio::test]
async fn a_label_counts_for_the_version_that_answered() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(1.0)).await;
    rig.switch(1).await;
    let id = text(&infer(&rig.tcp, json!([0.1, 0.9])).await.json()["id"]).to_owned();
    rig.load(2, rig::scale(1.0)).await;
    rig.switch(2).await;
    let label = json!({ "model": "m", "id": id, "label": 1 }).to_string();
    let first = rig::post(&rig.tcp, "/muster/v1/feedback", &[], label.clone().into()).await;
    assert_eq!((first.status, &first.json()["correct"]), (200, &json!(true)));
    assert_eq!(rig::post(&rig.tcp, "/muster/v1/feedback", &[], label.into()).await.status, 404, "once only");
    loop {
        if let Event::Observed(figures) = next(&mut rig.events).await
            && figures.labels.correct == 1
        {
            assert_eq!(figures.release.to_string(), "m@1");
            return;
        }
    }
}

/// Reports a counter or gauge.
async fn report(rig: &Rig, body: &serde_json::Value) -> rig::Answer {
    rig::post(&rig.tcp, "/muster/v1/metrics", &[], body.to_string().into()).await
}

#[tokio::test]
async fn what_an_application_reports_is_told_with_the_version_that_answered() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(1.0)).await;
    rig.switch(1).await;
    let id = text(&infer(&rig.tcp, json!([0.1, 0.9])).await.json()["id"]).to_owned();
    rig.load(2, rig::scale(1.0)).await;
    rig.switch(2).await;
    let scrap = json!({ "model": "m", "name": "scrap", "kind": "counter", "value": 2, "id": id });
    let queue = json!({ "model": "m", "name": "queue", "kind": "gauge", "value": -1.5 });
    let first = report(&rig, &scrap).await;
    assert_eq!((first.status, text(&first.json()["model_version"])), (200, "1"), "{}", first.text());
    for _ in 0..2 {
        let answer = report(&rig, &queue).await;
        assert_eq!((answer.status, text(&answer.json()["model_version"])), (200, "2"), "{}", answer.text());
    }
    // The inference had classes, so its label still counts after a report about it.
    let label = json!({ "model": "m", "id": id, "label": 1 }).to_string();
    assert_eq!(rig::post(&rig.tcp, "/muster/v1/feedback", &[], label.into()).await.status, 200);
    let mut told = std::collections::BTreeMap::<String, CustomMetrics>::new();
    let scrap = CustomSums { kind: CustomKind::Counter, sum: 2.0, count: 1 };
    let queue = CustomSums { kind: CustomKind::Gauge, sum: -3.0, count: 2 };
    let known = |told: &std::collections::BTreeMap<String, CustomMetrics>, release: &str, name: &str| {
        told.get(release)?.get(&MetricName::new(name).unwrap()).copied()
    };
    while (known(&told, "m@1", "scrap"), known(&told, "m@2", "queue")) != (Some(scrap), Some(queue)) {
        if let Event::Observed(figures) = next(&mut rig.events).await {
            told.entry(figures.release.to_string()).or_default().merge(&figures.custom);
        }
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_taken_says_what_to_do() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(1.0)).await;
    rig.switch(1).await;
    let gauge =
        |name: &str, value: f64| json!({ "model": "m", "name": name, "kind": "gauge", "value": value });
    let refused = async |body: &serde_json::Value, status: u16, part: &str| {
        let answer = report(&rig, body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{error}");
    };
    refused(&gauge("a b", 1.0), 400, "use 1 to 64 characters").await;
    refused(&gauge("queue", 1e13), 400, "is 1e13; report -1000000000000 to 1000000000000").await;
    let shrinks = json!({ "model": "m", "name": "n", "kind": "counter", "value": -1 });
    refused(&shrinks, 400, "report 0 to 1000000000000").await;
    refused(&json!({ "model": "m", "name": "queue", "value": 1 }), 400, "missing field `kind`").await;
    refused(&json!({ "model": "x", "name": "q", "kind": "gauge", "value": 1 }), 404, "no model 'x'").await;
    let unknown = json!({ "model": "m", "name": "q", "kind": "gauge", "value": 1, "id": "unknown" });
    refused(&unknown, 404, "leave the id out").await;
    refused(&json!({ "model": "m".repeat(5_000) }), 413, "at most 4096 bytes").await;
    for n in 0..16 {
        assert_eq!(report(&rig, &gauge(&format!("n{n}"), 1.0)).await.status, 200);
    }
    refused(&gauge("one-more", 1.0), 400, "no room for 'one-more'").await;
    let other = json!({ "model": "m", "name": "n3", "kind": "counter", "value": 1 });
    refused(&other, 400, "'n3' is a gauge").await;
    assert_eq!(report(&rig, &gauge("n3", 2.0)).await.status, 200);
}

#[tokio::test]
async fn how_sure_a_model_is_of_its_answers_is_told_when_they_are_probabilities() {
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(1.0)).await;
    rig.switch(1).await;
    for probabilities in [[0.25, 0.75], [0.5, 0.5]] {
        assert_eq!(infer(&rig.tcp, json!(probabilities)).await.status, 200);
    }
    let mut confidence = Sums::default();
    while confidence != (Sums { sum: 1.25, count: 2 }) {
        if let Event::Observed(figures) = next(&mut rig.events).await {
            confidence.merge(&figures.confidence);
        }
    }
}

#[tokio::test]
async fn a_killed_runner_is_told_and_its_successor_answers_on_the_same_sockets() {
    let mut rig = Rig::start().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(rig.runner.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let Event::Exited(exit) = next(&mut rig.events).await else { panic!("not told") };
    assert_eq!(exit.signal, Some(9));
    // Nobody accepts now, and still nobody is refused.
    let tcp = rig.tcp;
    let caller = tokio::spawn(async move { rig::get(&tcp, "/v2/health/live").await.status });
    rig.restart().await;
    assert_eq!(caller.await.unwrap(), 200);
}

#[tokio::test]
async fn a_model_of_another_digest_is_not_loaded() {
    let mut rig = Rig::start().await;
    let mut request = load_request(1, &rig::scale(2.0));
    request.model_digest = shared::Digest::of(b"another");
    let file = model_file(&rig::scale(2.0));
    rig.runner.send(Command::Load(Box::new(request)), vec![file.into()]).await.unwrap();
    let Event::Damaged { detail, .. } = next(&mut rig.events).await else { panic!("it was loaded") };
    assert!(detail.contains("digest"), "{detail}");
}

#[tokio::test]
async fn a_model_that_is_not_what_its_manifest_promises_is_not_loaded() {
    let mut rig = Rig::start().await;
    let mut request = load_request(1, &rig::scale(2.0));
    request.inputs[0].name = "another".into();
    let file = model_file(&rig::scale(2.0));
    rig.runner.send(Command::Load(Box::new(request)), vec![file.into()]).await.unwrap();
    let Event::LoadFailed { detail, .. } = next(&mut rig.events).await else { panic!("it was loaded") };
    assert!(detail.contains("inputs are another"), "{detail}");
}

#[tokio::test]
async fn a_shutdown_and_a_dropped_handle_end_the_process() {
    let mut rig = Rig::start().await;
    rig.runner.send(Command::Shutdown, vec![]).await.unwrap();
    let Event::Exited(exit) = next(&mut rig.events).await else { panic!("not told") };
    assert_eq!(exit.code, Some(0), "{}", exit.detail);

    let (runner, mut events) = RunnerProcess::spawn(exe()).unwrap();
    drop(runner);
    let exit = loop {
        match next(&mut events).await {
            Event::Exited(exit) => break exit,
            event => assert!(matches!(event, Event::LockedIn(_)), "{event:?}"),
        }
    };
    assert_eq!(exit.signal, Some(9), "{}", exit.detail);
}

#[tokio::test]
async fn a_version_that_grows_beyond_its_budget_is_told_with_both_numbers() {
    let mut measured = Rig::start().await;
    measured.load(1, rig::wide()).await;
    let loaded_kib = measured.loaded_kib;

    let mut rig = Rig::start().await;
    // Each new shape of the input takes a plan with its own copy of the weights, 16 MiB.
    rig.budgets.memory_mib = u32::try_from(loaded_kib / 1_024).unwrap() + 24;
    rig.load(1, rig::wide()).await;
    rig.switch(1).await;
    for rows in 1..=4 {
        assert_eq!(rig::infer_rows(&rig.tcp, rows).await.status, 200);
    }
    loop {
        if let Event::MemoryExceeded { release, used_kib, budget_kib } = next(&mut rig.events).await {
            assert_eq!(
                (release.to_string().as_str(), budget_kib),
                ("m@1", u64::from(rig.budgets.memory_mib) * 1_024)
            );
            assert!(used_kib > budget_kib, "{used_kib}");
            return;
        }
    }
}

#[tokio::test]
async fn a_runner_has_what_it_needs_and_nothing_else() {
    // Open in this process and not closed on exec: what a careless parent leaves behind.
    let leak = file_of(b"secret");
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let mut rig = Rig::start().await;
    rig.load(1, rig::scale(2.0)).await;
    rig.switch(1).await;
    assert_eq!(infer(&rig.tcp, json!([1.0, 2.0])).await.status, 200);
    let pid = rig.runner.pid();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();

    let status = read("status");
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "every thread is locked in: {status}");
    }
    let limits = read("limits");
    let hard = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().rev().find(|word| word.parse::<u64>().is_ok()).map(str::to_owned)
    };
    assert_eq!(hard("Max core file size").as_deref(), Some("0"));
    assert_eq!(hard("Max file size").as_deref(), Some("0"));
    assert_eq!(hard("Max open files").as_deref(), Some("1024"));
    assert_eq!(read("oom_score_adj").trim(), "500");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        let own = format!("/proc/{pid}/status");
        let expected = ["socket:", "pipe:", "anon_inode:[event", "/dev/null", &own];
        assert!(expected.iter().any(|start| target.starts_with(start)), "it holds {target}");
    }
}

#[tokio::test]
async fn what_the_kernel_lacks_is_told_and_the_rest_holds() {
    let landlock = "landlock_create_ruleset";
    for (calls, level, missing) in [
        (vec![landlock], HardeningLevel::Partial, vec!["files", "network", "processes"]),
        (vec!["seccomp"], HardeningLevel::Partial, vec!["system calls"]),
        (
            vec![landlock, "seccomp"],
            HardeningLevel::None,
            vec!["files", "network", "processes", "system calls"],
        ),
    ] {
        let (_folder, old_kernel) = rig::without_calls(&calls);
        let mut rig = Rig::start().await;
        let told = rig.restart_as(&old_kernel).await;
        let missing = missing.into_iter().map(str::to_owned).collect();
        assert_eq!(told, Event::LockedIn(Hardening { level, missing }));
        rig.load(1, rig::scale(2.0)).await;
        rig.switch(1).await;
        assert_eq!(infer(&rig.tcp, json!([1.0, 2.0])).await.status, 200);
    }
}

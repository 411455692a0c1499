//! A challenger beside a champion: two real processes, joined as the daemon joins them.

use std::os::{fd::OwnedFd, unix::net::UnixStream};

use crate::rig::{Rig, exe, infer, load_request, model_file, next, release, scale, text};
use muster_agent::runner::{Command, Event, RunnerProcess};
use muster_engine::onnx::GraphProto;
use serde_json::json;
use shared::challenger::{ChallengerFigures, Terms};
use tokio::sync::mpsc;

const ALL: Terms = Terms { sample_ppm: 1_000_000, cpu_percent: 100, until: None };

/// A runner in which `m@1` answers.
async fn champion() -> Rig {
    let mut rig = Rig::start().await;
    rig.load(1, scale(2.0)).await;
    rig.switch(1).await;
    rig
}

/// The process of `m@2`, loaded.
async fn challenger(model: GraphProto) -> (RunnerProcess, mpsc::Receiver<Event>) {
    let (process, mut events) = RunnerProcess::spawn_challenger(exe()).unwrap();
    assert!(matches!(next(&mut events).await, Event::LockedIn(_)));
    let request = Box::new(load_request(2, &model));
    process.send(Command::Load(request), vec![model_file(&model).into()]).await.unwrap();
    let loaded = next(&mut events).await;
    assert!(matches!(loaded, Event::Loaded { .. }), "{loaded:?}");
    (process, events)
}

/// Hands one end of a socket pair to the champion, and gives the other.
async fn feed(rig: &mut Rig) -> OwnedFd {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let challenge = Command::Challenge { challenger: release(2), terms: ALL };
    rig.runner.send(challenge, vec![ours.into()]).await.unwrap();
    // Whoever has obeyed this has obeyed what came before.
    rig.runner.send(Command::Ping, vec![]).await.unwrap();
    while next(&mut rig.events).await != Event::Alive {}
    theirs.into()
}

async fn joined(model: GraphProto) -> (Rig, RunnerProcess, mpsc::Receiver<Event>) {
    let mut rig = champion().await;
    let (process, events) = challenger(model).await;
    let theirs = feed(&mut rig).await;
    process.send(Command::TrySamples { release: release(2) }, vec![theirs]).await.unwrap();
    (rig, process, events)
}

/// What is told until `enough` says so.
async fn told(
    events: &mut mpsc::Receiver<Event>,
    enough: impl Fn(&ChallengerFigures) -> bool,
) -> ChallengerFigures {
    let mut sum = ChallengerFigures::new(release(1), release(2));
    while !enough(&sum) {
        match next(events).await {
            Event::Compared(figures) => {
                assert_eq!((&figures.champion, &figures.challenger), (&release(1), &release(2)));
                sum.merge(&figures);
            }
            Event::Exited(exit) => panic!("it ended: {}", exit.detail),
            _ => {}
        }
    }
    sum
}

async fn ask(rig: &Rig, times: usize) {
    for _ in 0..times {
        let answer = infer(&rig.tcp, json!([1.0, 2.0])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(text(&answer["model_version"]), "1", "a challenger answers nobody");
        assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0]));
    }
}

#[tokio::test]
async fn callers_are_answered_by_the_champion_and_the_challenger_is_compared_with_it() {
    let (mut rig, _process, mut events) = joined(scale(3.0)).await;
    ask(&rig, 10).await;
    let sampled = told(&mut rig.events, |sum| sum.sampled >= 10).await;
    assert_eq!((sampled.sampled, sampled.dropped), (10, 0));
    let sum = told(&mut events, |sum| sum.compared >= 10).await;
    assert_eq!((sum.compared, sum.agreed, sum.disagreed, sum.failed), (10, 10, 0, 0));
    let delta = sum.score_delta.quantile(0.5).unwrap();
    assert!((delta - 2.0).abs() <= 2.0 / 16.0, "4 and 6 differ by 2, not by {delta}");
    assert_eq!(sum.latency_ms.count(), 10);
}

#[tokio::test]
async fn a_challenger_that_decides_otherwise_is_found_out_with_both_classes() {
    let (rig, _process, mut events) = joined(scale(-1.0)).await;
    ask(&rig, 3).await;
    let sum = told(&mut events, |sum| sum.compared >= 3).await;
    assert_eq!((sum.agreed, sum.disagreed), (0, 3));
    assert_eq!((sum.disagreements[0].champion, sum.disagreements[0].challenger), (1, 0));
}

#[tokio::test]
async fn a_challenger_that_hangs_keeps_no_caller_waiting() {
    let mut rig = champion().await;
    // Whoever holds this end never reads and never answers: the first sample stays under way for ever.
    let _hung = feed(&mut rig).await;
    ask(&rig, 200).await;
    let sum = told(&mut rig.events, |sum| sum.sampled >= 200).await;
    assert_eq!(sum.sampled, 200);
    assert!(sum.dropped >= 180, "the queue is bounded: {} of 200 were dropped", sum.dropped);
}

#[tokio::test]
async fn a_challenger_that_dies_leaves_its_champion_untouched_and_is_fed_no_more() {
    let (mut rig, process, mut events) = joined(scale(3.0)).await;
    ask(&rig, 1).await;
    told(&mut events, |sum| sum.compared >= 1).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    loop {
        if let Event::Exited(exit) = next(&mut events).await {
            assert_eq!(exit.signal, Some(9));
            break;
        }
    }
    // The runner learns of it while it waits for a quiet moment, of which these leave none.
    ask(&rig, 100).await;
    rig.runner.send(Command::Shutdown, vec![]).await.unwrap();
    let mut sampled = 0;
    loop {
        match next(&mut rig.events).await {
            Event::Compared(figures) => sampled += figures.sampled,
            Event::Exited(_) => break,
            _ => {}
        }
    }
    assert!((1..=50).contains(&sampled), "{sampled} of 101 inferences were sampled");
}

#[tokio::test]
async fn a_challenger_whose_answers_are_no_numbers_has_failed_and_nobody_hears_them() {
    let (rig, _process, mut events) = joined(crate::rig::divide_by_itself()).await;
    // 0/0 for the challenger, 0 for the champion.
    let answer = infer(&rig.tcp, json!([0.0, 0.0])).await;
    assert_eq!((answer.status, answer.json()["outputs"][0]["data"].clone()), (200, json!([0.0, 0.0])));
    let sum = told(&mut events, |sum| sum.failed >= 1).await;
    assert_eq!((sum.failed, sum.compared), (1, 0));
}

#[tokio::test]
async fn a_challenger_is_locked_in_and_the_last_in_every_line() {
    let (process, _events) = challenger(scale(3.0)).await;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", process.pid())).unwrap();
    assert!(read("status").contains("Seccomp:\t2"));
    assert_eq!(read("oom_score_adj").trim(), "800", "it goes before the runner when memory is short");
    let stat = read("stat");
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap();
    assert_eq!(nice, "19");
}

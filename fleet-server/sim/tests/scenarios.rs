//! Stories with the transcripts that they must have, so that a change of policy reads as a difference of texts.
//!
//! `scenarios/NAME.toml` is a story, `scenarios/NAME.txt` what an operator sees of it. `MUSTER_SIM_UPDATE=1` writes the
//! transcripts anew; the difference is then for a person to read.
//!
//! `live/NAME.toml` is a story for a real server (`muster sim`). It is told here too, in virtual time to both cores, with
//! as many devices as it says and what it expects.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use muster_sim::{Flaw, LiveStory, Rehearsed, read_live_story, read_story, transcribe};

/// Lines of a story that went wrong that are shown.
const TAIL: usize = 60;

#[test]
fn every_story_goes_as_it_is_written_down() {
    let mut wrong = vec![];
    for path in stories() {
        let told = transcribe(&story(&path));
        let expected = path.with_extension("txt");
        if env::var_os("MUSTER_SIM_UPDATE").is_some() {
            fs::write(&expected, &told).unwrap();
        }
        let written = fs::read_to_string(&expected).unwrap_or_default();
        if told != written {
            wrong.push(difference(&path, &written, &told));
        }
    }
    assert!(wrong.is_empty(), "MUSTER_SIM_UPDATE=1 writes these anew:\n{}", wrong.join("\n"));
}

#[test]
fn no_story_breaks_a_rule() {
    for path in stories() {
        let told = transcribe(&story(&path));
        assert!(
            !told.contains("A RULE IS BROKEN") && !told.contains("A RULE IS broken"),
            "{}\n{told}",
            path.display()
        );
    }
}

#[test]
fn every_transcript_has_its_story() {
    let transcripts = files("scenarios", "txt");
    assert!(transcripts.iter().all(|path| path.with_extension("toml").exists()), "{transcripts:?}");
    assert!(stories().len() >= 18, "stories are missing");
}

#[test]
fn every_story_for_a_real_server_ends_as_it_expects_in_virtual_time_too() {
    let paths = files("live", "toml");
    assert!(paths.len() >= 5, "stories are missing: {paths:?}");
    for path in paths {
        let Rehearsed { missed, transcript } = rehearse(&path, &live_story(&path), None);
        assert!(missed.is_empty(), "{}\n{}{}", path.display(), transcript.tail(TAIL), missed.join("\n"));
    }
}

#[test]
fn a_story_for_a_real_server_that_expects_something_else_says_so() {
    let path = live("bad-while-links-flap");
    let mut story = live_story(&path);
    let expected = story.expect.values_mut().next().unwrap();
    (expected.state, expected.committed_percent_at_least) = (Some("completed".into()), Some(100));
    assert_eq!(
        rehearse(&path, &story, None).missed,
        [
            "r1 should be completed and is rolled_back",
            "r1 should be kept by 100 % of its devices and is by 0 %"
        ]
    );
    story.expect.clear();
    story.end = muster_sim::Moment::of_secs(5);
    let missed = rehearse(&path, &story, None).missed;
    assert!(missed.len() == 1 && missed[0].contains("still running at the end"), "{missed:?}");
}

#[test]
fn the_oracle_looks_after_stories_for_a_real_server_too() {
    let path = live("bad-while-links-flap");
    let missed = rehearse(&path, &live_story(&path), Some(Flaw::AsksAhead)).missed;
    assert!(missed.len() == 1 && missed[0].starts_with("broken: "), "{missed:?}");
}

fn rehearse(path: &Path, story: &LiveStory, flaw: Option<Flaw>) -> Rehearsed {
    let rehearsal = story.rehearsal(None).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    rehearsal.tell(flaw)
}

fn live_story(path: &Path) -> LiveStory {
    let text = fs::read_to_string(path).unwrap();
    read_live_story(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn live(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("live").join(name).with_extension("toml")
}

fn story(path: &Path) -> muster_sim::Story {
    let text = fs::read_to_string(path).unwrap();
    read_story(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stories() -> Vec<PathBuf> {
    files("scenarios", "toml")
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    files
}

/// The first lines that differ.
fn difference(path: &Path, expected: &str, told: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let pairs = expected.lines().zip(told.lines()).find(|(expected, told)| expected != told);
    match pairs {
        Some((expected, told)) => format!("{name}\n- {expected}\n+ {told}"),
        None => format!("{name}: {} lines instead of {}", told.lines().count(), expected.lines().count()),
    }
}

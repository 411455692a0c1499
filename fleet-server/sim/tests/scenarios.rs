//! Stories with the transcripts that they must have, so that a change of policy reads as a difference of texts.
//!
//! `scenarios/NAME.toml` is a story, `scenarios/NAME.txt` what an operator sees of it. `MUSTER_SIM_UPDATE=1` writes the
//! transcripts anew; the difference is then for a person to read.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use muster_sim::{read_story, transcribe};

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
    let transcripts = files("txt");
    assert!(transcripts.iter().all(|path| path.with_extension("toml").exists()), "{transcripts:?}");
    assert!(stories().len() >= 18, "stories are missing");
}

fn story(path: &Path) -> muster_sim::Story {
    let text = fs::read_to_string(path).unwrap();
    read_story(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stories() -> Vec<PathBuf> {
    files("toml")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
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

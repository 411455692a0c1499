//! What is known to be missing, each with a story that shows it. When a story here breaks its rule no more, the gap is
//! closed: it moves to `scenarios/` without its `strict`, and the exemption of the oracle goes with the last strict one.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

use std::{fs, path::Path};

use muster_sim::{Detail, read_story, tell};

const LEFT: &str = "a rolled back release is left nowhere";

const GAPS: [(&str, &str); 3] =
    [("given-back", LEFT), ("never-asked", LEFT), ("back-to-what-goes-back", LEFT)];

#[test]
fn the_oracle_finds_every_known_gap_where_it_is_told_to_look() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("gaps");
    for (name, rule) in GAPS {
        let path = folder.join(format!("{name}.toml"));
        let story = read_story(&fs::read_to_string(&path).unwrap()).unwrap();
        let (end, transcript) = tell(&story, None, Detail::Milestones);
        let broken = end.err().map(|violation| violation.rule);
        assert_eq!(broken, Some(rule), "{name} is closed?\n{transcript}");
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), GAPS.len());
}

#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

use super::*;
use crate::{Act, Rehearsed, Transcript};

const HEAD: &str = "title='x'\nend='1:00'\n";

fn refusal(rest: &str) -> String {
    read_live_story(&format!("{HEAD}{rest}")).unwrap_err().to_string()
}

fn story(rest: &str) -> LiveStory {
    read_live_story(&format!("{HEAD}{rest}")).unwrap()
}

#[test]
fn every_live_story_that_is_kept_can_be_told() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("live");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let read = read_live_story(&std::fs::read_to_string(&path).unwrap());
        assert!(read.is_ok(), "{}: {}", path.display(), read.unwrap_err());
        count += 1;
    }
    assert!(count >= 5, "live stories are missing");
}

#[test]
fn what_only_virtual_time_can_do_is_refused_with_the_line_and_what_to_do_instead() {
    let device = "[[device]]\nname='cam'\n";
    let cases = [
        ("strict=true\ndevice=[]", "take it out"),
        ("calm='0:30'\ndevice=[]", "`for_secs`"),
        ("[[device]]\nname='cam'\ncharacter='liar'", "only in virtual time"),
        ("[[device]]\nname='cam'\non='0:10'", "`reconnect`"),
        ("device=[]\n[[release]]\nrelease='m@1'\nblocks=9", "real files"),
        ("device=[]\n[network]\nloss_ppm=5", "`outage`"),
    ];
    for (text, hint) in cases {
        let said = refusal(text);
        assert!(said.contains(hint) && said.contains("line "), "{text}: {said}");
    }
    for kind in ["approve", "freeze", "quarantine", "stop_server", "kill_server", "server_clock"] {
        let said = refusal(&format!("{device}[[act]]\nat='0:10'\ndo='{kind}'"));
        assert!(said.contains(kind) && said.contains("0:10:00") && said.contains("virtual time"), "{said}");
    }
}

#[test]
fn a_misspelt_key_is_an_error_wherever_it_stands() {
    let device = "[[device]]\nname='cam'\n";
    for text in [
        "devices=3\ndevice=[]".to_owned(),
        format!("{device}trafic=3"),
        format!("{device}[[release]]\nrelease='m@1'\nnatur='good'"),
        format!("{device}[network]\ndamage=3"),
        format!("{device}[[act]]\nat='0:01'\ndo='cut'\ndevice=['cam']"),
        format!("{device}[[act]]\nat='0:01'\ndo='cut'\ndevices={{ percnt = 3 }}"),
        format!("{device}[[act]]\nat='0:01'\ndo='cutt'"),
        format!("{device}[[act]]\ndo='cut'"),
        format!("{device}[expect.r1]\nstat='completed'"),
    ] {
        refusal(&text);
    }
}

#[test]
fn a_story_that_contradicts_itself_is_told_where() {
    let start = "[[release]]\nrelease='m@1'\n[[act]]\nat='0:10'\ndo='start'\nrollout='r1'\nrelease='m@1'\n";
    let device = "[[device]]\nname='cam'\n";
    let cases = [
        ("device=[]".to_owned(), "0 devices"),
        (format!("{device}count=30000"), "25000"),
        (format!("{device}{device}"), "two [[device]] are called cam"),
        (format!("{device}runs='m@1'"), "no [[release]] names"),
        (format!("{device}[[release]]\nrelease='m@2'"), "without gaps"),
        (format!("{device}[[release]]\nrelease='m@1'\nexcept={{ cat = 'good' }}"), "no device or class cat"),
        (format!("{device}{start}{start}").replacen("[[release]]\nrelease='m@1'\n", "", 1), "started twice"),
        (format!("{device}[[act]]\nat='0:01'\ndo='pause'\nrollout='r1'"), "before any `start`"),
        (format!("{device}[[act]]\nat='2:00'\ndo='cut'"), "after the end"),
        (format!("{device}[[act]]\nat='0:01'\ndo='cut'\ndevices=['cam-2']"), "no device or class cam-2"),
        (format!("{device}[[act]]\nat='0:01'\ndo='cut'\ndevices={{ percent = 0 }}"), "write 1 to 100"),
        (
            format!("{device}[[act]]\nat='0:01'\ndo='flap'\nevery_secs=2\ndown_secs=2\nuntil='0:02'"),
            "longer than down_secs",
        ),
        (format!("{device}[expect.r1]\nstate='completed'"), "no act starts r1"),
        (format!("{device}{start}[expect.r1]\nstate='good'"), "no state"),
    ];
    for (text, hint) in cases {
        let said = refusal(&text);
        assert!(said.contains(hint), "{text}: {said}");
    }
}

#[test]
fn any_number_of_devices_is_divided_as_the_story_divides_its_own() {
    let three = story(
        "[[device]]\nname='a'\ncount=70\n[[device]]\nname='b'\ncount=25\n[[device]]\nname='c'\ncount=5",
    );
    for total in [1, 2, 3, 7, 99, 100, 101, 10_000] {
        let crowd = Crowd::of(&three, Some(total), "").unwrap();
        assert_eq!(crowd.len(), total as usize);
    }
    let sizes = |total| {
        let crowd = Crowd::of(&three, total, "").unwrap();
        crowd.classes.iter().map(|class| class.members.len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(Some(10_000)), [7_000, 2_500, 500]);
    assert_eq!(sizes(None), [70, 25, 5]);
}

#[test]
fn a_device_that_is_lost_with_a_smaller_number_is_an_error_and_not_ignored() {
    let named = story("[[device]]\nname='cam'\ncount=10\n[[act]]\nat='0:01'\ndo='cut'\ndevices=['cam-10']");
    assert!(Crowd::of(&named, Some(9), "").unwrap_err().contains("cam-10"));
    assert!(Crowd::of(&named, Some(10), "").is_ok());
}

#[test]
fn a_percentage_is_that_many_different_devices_and_the_same_ones_for_the_same_seed() {
    let many = story("[[device]]\nname='a'\ncount=150\n[[device]]\nname='b'\ncount=50");
    let crowd = Crowd::of(&many, None, "").unwrap();
    let drawn = crowd.who(&Who::Share { percent: 30, of: None });
    let distinct: std::collections::BTreeSet<_> = drawn.iter().collect();
    assert_eq!((drawn.len(), distinct.len()), (60, 60));
    assert_eq!(drawn, crowd.who(&Who::Share { percent: 30, of: None }));
    assert!(
        crowd.who(&Who::Share { percent: 10, of: Some("b".into()) }).iter().all(|(class, _)| *class == 1)
    );
    assert_eq!(crowd.who(&Who::default()).len(), 200);
    let named = crowd.who(&Who::Named(vec!["b".into(), "a-3".into()]));
    assert_eq!((named.len(), crowd.id(named[50]).as_str()), (51, "a-3"));
    let elsewhere = Crowd::of(&many, None, "-7f").unwrap();
    let named = elsewhere.who(&Who::Named(vec!["a-3".into()]));
    assert_eq!(elsewhere.id(named[0]).as_str(), "a-3-7f");
}

#[test]
fn a_release_that_does_not_suit_a_class_suits_none_of_its_devices() {
    let story = story(
        "[[device]]\nname='a'\ncount=2\n[[device]]\nname='b'\ncount=2\n[[release]]\nrelease='m@1'\nexcept={ b = 'fails_trial', a-2 = 'slow' }",
    );
    let crowd = Crowd::of(&story, None, "").unwrap();
    let releases = crowd.releases(&story, |it| format!("{}-x@{}", it.model, it.version).parse().unwrap());
    let except: Vec<_> = releases[0].except.iter().map(|(id, nature)| (id.as_str(), *nature)).collect();
    assert_eq!(except, [("a-2", Nature::Slow), ("b-1", Nature::FailsTrial), ("b-2", Nature::FailsTrial)]);
    assert_eq!(releases[0].release.to_string(), "m-x@1");
}

/// What came of a story in virtual time.
fn rehearsed(rest: &str) -> (Vec<String>, String) {
    let story = story(rest);
    let Rehearsed { missed, transcript } = story.rehearsal(None).unwrap().tell(None);
    (missed, Transcript::to_string(&transcript))
}

const GOOD: &str = "[[release]]\nrelease='m@1'\nprobation_secs=1\nmin_inferences=1\n";
const START: &str = "[[act]]\nat='0:01'\ndo='start'\nrollout='r1'\nrelease='m@1'\n";

#[test]
fn in_virtual_time_a_story_begins_when_all_are_connected_and_nobody_is_left_out() {
    let (missed, told) = rehearsed(&format!(
        "[[device]]\nname='cam'\ncount=3\n{GOOD}{}[expect.r1]\nstate='completed'\ncommitted_percent_at_least=100",
        START.replace("0:01", "0:00"),
    ));
    assert!(missed.is_empty(), "{missed:?}\n{told}");
    assert!(told.contains("asks wave 1: 3 devices") && !told.contains("leaves out"), "{told}");
}

#[test]
fn in_virtual_time_an_outage_ends_a_mute_device_is_silent_and_what_flaps_comes_back() {
    let story = story(&format!(
        "[[device]]\nname='cam'\ncount=2\n[[device]]\nname='brick'\ncharacter='mute'\n{GOOD}\
         [[act]]\nat='0:02'\ndo='outage'\ndevices=['cam']\nfor_secs=7\n\
         [[act]]\nat='0:01'\ndo='flap'\ndevices=['cam-2']\nevery_secs=5\ndown_secs=1\nuntil='0:03'\n\
         {START}strategy={{ silent_after_secs = 60, max_silent_percent = 50 }}\n\
         [expect.r1]\nstate='completed'"
    ));
    let rehearsal = story.rehearsal(None).unwrap();
    let acts: Vec<_> = rehearsal.story().acts.iter().map(|it| (it.at.to_string(), &it.act)).collect();
    let kinds: Vec<_> = acts.iter().map(|(at, act)| (at.as_str(), kind(act))).collect();
    let expected = [
        ("0:00:30", "mute"),
        ("0:01:30", "flap"),
        ("0:01:30", "start"),
        ("0:02:30", "cut"),
        ("0:02:37", "reconnect"),
    ];
    assert_eq!(kinds, expected);
    let Rehearsed { missed, transcript } = rehearsal.tell(None);
    let told = transcript.to_string();
    assert!(missed.is_empty(), "{missed:?}\n{told}");
    assert!(told.contains("brick-1 is silent") && told.contains("2 committed, 1 silent"), "{told}");
}

fn kind(act: &Act) -> &'static str {
    match act {
        Act::Mute { .. } => "mute",
        Act::Flap { .. } => "flap",
        Act::Start { .. } => "start",
        Act::Cut { .. } => "cut",
        Act::Reconnect { .. } => "reconnect",
        _ => "another",
    }
}

#[test]
fn a_rollout_that_is_over_late_is_not_over_at_the_end_of_its_story() {
    let late = START.replace("0:01", "0:59:59");
    let (missed, told) = rehearsed(&format!("[[device]]\nname='cam'\n{GOOD}{late}"));
    assert!(missed.len() == 1 && missed[0].contains("still running at the end"), "{missed:?}");
    assert!(told.contains("COMPLETED"), "{told}");
}

#[test]
fn a_rollout_whose_devices_a_newer_one_took_counts_as_it_was_when_it_was_over() {
    let (missed, told) = rehearsed(&format!(
        "[[device]]\nname='cam'\ncount=2\n{GOOD}{}{START}{}\
         [expect.r1]\nstate='completed'\ncommitted_percent_at_least=100\n[expect.r2]\nstate='completed'",
        GOOD.replace("@1", "@2"),
        START.replace("0:01", "0:30").replace("r1", "r2").replace("@1", "@2"),
    ));
    assert!(missed.is_empty(), "{missed:?}\n{told}");
}

#[test]
fn what_virtual_time_cannot_do_is_refused_by_name() {
    let refusal = |rest: &str, total| story(rest).rehearsal(total).unwrap_err().to_string();
    let bad = "[[device]]\nname='cam'\nruns='m@1'\n[[release]]\nrelease='m@1'\nexcept={ cam = 'slow' }";
    assert!(refusal(bad, None).contains("cam-1 runs m@1, which is Slow there"));
    let compared = format!(
        "telemetry_secs=0\n[[device]]\nname='cam'\n{GOOD}{START}strategy={{ metrics = {{}}, control_percent = 10 }}"
    );
    assert!(refusal(&compared, None).contains("r1 compares metrics and telemetry_secs is 0"));
    let named = "[[device]]\nname='cam'\ncount=9\n[[act]]\nat='0:01'\ndo='cut'\ndevices=['cam-9']";
    assert!(refusal(named, Some(3)).contains("cam-9"));
}

#[test]
fn in_virtual_time_a_slower_release_is_stopped_by_the_looks_of_the_story() {
    let strategy = "strategy={ waves = [{ share = { percent = 50 } }, { share = \"all\" }], control_percent = 50, metrics = { max_bake_secs = 1500 } }\n";
    let old = GOOD.replace("@1", "@2").replace("m@2'", "m@2'\nnature={ slower = 60 }");
    let (missed, told) = rehearsed(&format!(
        "look_secs=30\n[[device]]\nname='cam'\ncount=60\nruns='m@1'\ntraffic=600\n{GOOD}{old}{}{strategy}[expect.r1]\nstate='rolled_back'",
        START.replace("@1", "@2").replace("0:01", "0:30"),
    ));
    assert!(missed.is_empty() && told.contains("metrics of wave 1: degraded"), "{missed:?}\n{told}");
}

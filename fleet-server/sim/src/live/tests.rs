#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

use super::*;

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

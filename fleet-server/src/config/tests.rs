use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("muster.toml", text, &Variables::default())
}

fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Config::parse("muster.toml", "", &variables)
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    assert_eq!(parse(DEFAULTS).unwrap(), Config::default());
}

#[test]
fn a_wrong_type_is_shown_with_line_and_column() {
    let error = parse("[http]\nlisten = 7\n").unwrap_err().to_string();
    assert!(error.starts_with("muster.toml:2:10: "), "{error}");
    assert!(error.contains("listen = 7\n             ^"), "{error}");
}

#[test]
fn an_unknown_key_names_the_keys_that_exist() {
    let error = parse("[limits]\nupload = 3\n").unwrap_err().to_string();
    assert!(error.starts_with("muster.toml:2:1: "), "{error}");
    assert!(error.contains("upload_mib"), "{error}");
}

#[test]
fn a_broken_file_says_what_was_expected() {
    let error = parse("data_dir = \n").unwrap_err().to_string();
    assert!(error.starts_with("muster.toml:1:"), "{error}");
}

#[test]
fn a_limit_of_zero_is_refused() {
    let error = parse("[limits]\nconnections = 0").unwrap_err().to_string();
    assert_eq!(error, "limits.connections is 0; expected a number from 1 up");
}

#[test]
fn certificates_that_end_before_they_are_renewed_are_refused() {
    let error = parse("[certificates]\ndevice_life_secs = 14").unwrap_err().to_string();
    assert!(error.starts_with("certificates.device_life_secs is 14; expected a number from 15"), "{error}");
}

#[test]
fn what_drift_cannot_be_watched_by_is_refused() {
    let wrong = [
        ("check_secs = 0", "drift.check_secs is 0"),
        ("check_secs = 700000", "drift.check_secs is 700000; expected a number from 1 to 604800"),
        ("strata = [\"a site\"]", "drift.strata is [\"a site\"]"),
        ("one_false_alarm_in_years = 0.0", "drift.one_false_alarm_in_years is 0; expected a number from 0.1"),
        ("suppress_secs = 3000000", "drift.suppress_secs is 3000000"),
        ("keep_minutes_for_hours = 400", "drift.keep_minutes_for_hours is 400; expected no longer than"),
        ("keep_days_for_days = 13", "drift.keep_hours_for_days is 14; expected no longer than"),
    ];
    for (line, says) in wrong {
        let error = parse(&format!("[drift]\n{line}")).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn a_variable_wins_over_the_file() {
    let config = with(&[
        ("MUSTER__HTTP__LISTEN", "0.0.0.0:9000"),
        ("MUSTER__LIMITS__UPLOAD_MIB", "7"),
        ("MUSTER__TLS__NAMES", "[\"fleet.example\"]"),
        ("MUSTER__DATA_DIR", "/srv/muster"),
        ("MUSTER_TOKEN", "not ours"),
    ])
    .unwrap();
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:9000");
    assert_eq!(config.limits.upload_mib, 7);
    assert_eq!(config.tls.names, ["fleet.example"]);
    assert_eq!(config.data_dir, Path::new("/srv/muster"));
}

#[test]
fn a_wrong_variable_is_named() {
    let error = with(&[("MUSTER__LIMITS__UPLOAD_MIB", "many")]).unwrap_err().to_string();
    assert!(error.starts_with("environment variable MUSTER__LIMITS__UPLOAD_MIB: "), "{error}");
    let error = with(&[("MUSTER__HTTP__LISTN", "x")]).unwrap_err().to_string();
    assert!(error.contains("listen"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/muster.toml")), &Variables::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/muster.toml"));
}

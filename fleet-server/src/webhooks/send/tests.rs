use super::*;

#[test]
fn a_ca_that_is_none_is_refused_before_anything_is_posted() {
    let sender = |pem: &str| Sender::new("https://hooks.example/", Some(pem));
    let says = |pem: &str| sender(pem).unwrap_err().to_string();
    assert!(says("").contains("-----BEGIN CERTIFICATE-----"));
    assert!(says("not PEM").contains("no certificate in PEM form"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(says(broken).contains("cannot be used"));
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    assert!(sender(&ca).is_ok());
    assert!(Sender::new("http://127.0.0.1/", None).is_ok(), "no CA is needed where nobody proves anything");
    assert!(says(&ca.repeat(17)).contains("more than 16"));
}

/// The environment of a process does not change under its threads, so this is tried in another process.
#[test]
fn a_system_without_any_ca_says_so_and_posts_to_http() {
    const WITHOUT: &str = "MUSTER_TEST_WITHOUT_CAS";
    if std::env::var_os(WITHOUT).is_none() {
        let empty = tempfile::tempdir().unwrap();
        let name = format!(
            "{}::a_system_without_any_ca_says_so_and_posts_to_http",
            module_path!().split_once("::").unwrap().1
        );
        let other = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name])
            .env(WITHOUT, "yes")
            .env("SSL_CERT_FILE", empty.path().join("none.pem"))
            .env("SSL_CERT_DIR", empty.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&other.stdout);
        assert!(other.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let why = Sender::new("https://hooks.example/", None).unwrap_err();
    assert!(why.to_string().contains("ca-certificates"), "{why}");
    let failure = Failure::of_ours(&why);
    assert_eq!((failure.kind, &failure.detail), (FailureKind::Unreachable, &why.to_string()));
    assert!(Sender::new("http://hooks.example/", None).is_ok());
}

#[test]
fn a_receiver_that_wants_no_more_is_told_from_one_that_is_busy() {
    let of = |status| refused(StatusCode::from_u16(status).unwrap(), None);
    assert_eq!(of(410).kind, FailureKind::Gone);
    assert_eq!(of(429).kind, FailureKind::Refused);
    assert_eq!(of(302).detail, "the receiver answered 302 Found; redirects are not followed");
}

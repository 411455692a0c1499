use super::*;
use crate::servers::ServerId;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A data directory, and a database that is one server's or of several.
struct Place {
    _root: tempfile::TempDir,
    data_dir: DataDir,
    store: Store,
}

impl Place {
    async fn alone() -> Self {
        Self::with(None).await
    }

    async fn with(url: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let store = Store::open(url, data_dir.path(), ServerId::new()).await.unwrap();
        Self { _root: root, data_dir, store }
    }

    async fn open(&self) -> Result<Signing, SigningError> {
        Signing::open(&self.data_dir, &self.store, NOW).await
    }

    /// As an operator does who adds a server.
    fn copy_keys_to(&self, other: &Self) {
        for entry in std::fs::read_dir(self.data_dir.path()).unwrap().map(Result::unwrap) {
            if entry.path().extension().is_some_and(|ending| ending == "key") {
                std::fs::copy(entry.path(), other.data_dir.path().join(entry.file_name())).unwrap();
            }
        }
    }
}

fn timestamp(signing: &Signing) -> Bytes {
    signing.metadata("timestamp.json").unwrap()
}

#[tokio::test]
async fn keys_and_repository_survive_a_restart() {
    let place = Place::alone().await;
    let (first, second) = (place.open().await.unwrap(), place.open().await.unwrap());
    assert_eq!(first.trusted_root(), second.trusted_root());
    assert_eq!(timestamp(&first), timestamp(&second));
    assert!(first.metadata("1.root.json").is_some() && first.metadata("../ca.key").is_none());
}

#[tokio::test]
async fn a_lost_repository_is_not_silently_replaced() {
    let place = Place::alone().await;
    place.open().await.unwrap();
    std::fs::remove_file(place.data_dir.join(STATE)).unwrap();
    let Err(error) = place.open().await else { panic!("it starts") };
    assert!(error.to_string().contains("state.json is missing"), "{error}");
}

#[tokio::test]
async fn metadata_is_signed_again_at_half_its_life() {
    let place = Place::alone().await;
    let signing = place.open().await.unwrap();
    let before = timestamp(&signing);
    signing.refresh(NOW).await.unwrap();
    assert_eq!(before, timestamp(&signing));
    signing.refresh(NOW + signing.next_refresh(NOW)).await.unwrap();
    assert_ne!(before, timestamp(&signing));
}

#[tokio::test]
async fn two_servers_sign_one_line_of_versions() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shared.db").display());
    let (one, other) = (Place::with(Some(&url)).await, Place::with(Some(&url)).await);
    let first = one.open().await.unwrap();
    let Err(error) = other.open().await else { panic!("it starts with other keys") };
    assert!(error.to_string().contains("Copy the keys"), "{error}");
    one.copy_keys_to(&other);
    let second = other.open().await.unwrap();
    assert_eq!(timestamp(&first), timestamp(&second));

    let later = NOW + first.next_refresh(NOW);
    first.refresh(later).await.unwrap();
    assert_ne!(timestamp(&first), timestamp(&second));
    second.follow().await.unwrap();
    assert_eq!(timestamp(&first), timestamp(&second));

    // A server that has not looked signs on from the newest nevertheless.
    let later = later + first.next_refresh(later);
    second.refresh(later).await.unwrap();
    first.refresh(later).await.unwrap();
    assert_eq!(timestamp(&first), timestamp(&second));
}

#[tokio::test]
async fn a_server_that_is_led_to_the_database_of_another_fleet_keeps_its_own_repository() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shared.db").display());
    let _theirs = Place::with(Some(&url)).await.open().await.unwrap();
    let ours = Place::alone().await;
    let root = ours.open().await.unwrap().trusted_root();
    let file = std::fs::read(ours.data_dir.join(STATE)).unwrap();
    let led_astray = Store::open(Some(&url), ours.data_dir.path(), ServerId::new()).await.unwrap();
    let Err(error) = Signing::open(&ours.data_dir, &led_astray, NOW).await else { panic!("it starts") };
    assert!(error.to_string().contains("Correct database.url"), "{error}");
    assert_eq!(std::fs::read(ours.data_dir.join(STATE)).unwrap(), file);
    assert_eq!(ours.open().await.unwrap().trusted_root(), root);
}

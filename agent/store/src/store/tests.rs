use super::*;
use shared::artifact::Encoding;
use shared::artifact::{BLOCK_BYTES, Packed};
use std::fs;

const WIDE: Room = Room { quota_bytes: 1 << 30, spare_bytes: 0 };

fn zstd_artifact(bytes: &[u8]) -> (Artifact, Vec<u8>) {
    let packed = zstd::encode_all(bytes, 1).unwrap();
    let artifact = Artifact {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u64,
        packed: Packed::describe(&packed, Encoding::Zstd),
    };
    (artifact, packed)
}

/// Bytes that do not compress, so that there are several blocks.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| Digest::of(&(i / 32).to_le_bytes()).as_bytes()[(i % 32) as usize]).collect()
}

fn put_all(store: &mut Store, artifact: &Artifact, packed: &[u8]) {
    for (index, block) in packed.chunks(BLOCK_BYTES as usize).enumerate() {
        let (_, fate) = store.put_block(artifact.packed.digest.short(), index as u32, block).unwrap();
        assert!(matches!(fate, BlockFate::Stored { .. }));
    }
}

#[test]
fn an_artifact_is_visible_only_after_it_was_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(200_000);
    let (artifact, packed) = zstd_artifact(&bytes);
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    assert!(matches!(store.stage(&artifact).unwrap(), Opened::Staging(here) if here.count_here() == 0));
    put_all(&mut store, &artifact, &packed);
    assert!(!store.path(&artifact.digest).exists());
    store.unpack(&artifact).unwrap();
    assert_eq!(fs::read(store.path(&artifact.digest)).unwrap(), bytes);
    assert!(matches!(store.stage(&artifact).unwrap(), Opened::AlreadyHere));
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
}

#[test]
fn after_a_restart_only_missing_blocks_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (artifact, packed) = zstd_artifact(&noise(300_000));
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    store.stage(&artifact).unwrap();
    for index in [0_usize, 2] {
        let block = packed.chunks(BLOCK_BYTES as usize).nth(index).unwrap();
        store.put_block(artifact.packed.digest.short(), index as u32, block).unwrap();
    }
    drop(store);
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    let Opened::Staging(here) = store.stage(&artifact).unwrap() else { panic!("not complete yet") };
    assert_eq!((here.has(0), here.has(1), here.has(2), here.count_here()), (true, false, true, 2));
}

#[test]
fn a_block_that_does_not_fit_its_digest_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (artifact, packed) = zstd_artifact(&noise(100_000));
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    store.stage(&artifact).unwrap();
    let mut block = packed[..BLOCK_BYTES as usize].to_vec();
    block[7] ^= 1;
    let short = artifact.packed.digest.short();
    assert_eq!(store.put_block(short, 0, &block).unwrap().1, BlockFate::Refused);
    assert_eq!(store.put_block(short, 99, &block).unwrap().1, BlockFate::Refused);
    assert!(matches!(store.put_block([0; 8], 0, &block), Err(StoreError::NotStaging)));
}

#[test]
fn a_bomb_ends_at_the_signed_length_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut artifact, packed) = zstd_artifact(&vec![0; 50_000_000]);
    artifact.size_bytes = 1_000;
    artifact.digest = Digest::of(b"something else");
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    store.stage(&artifact).unwrap();
    put_all(&mut store, &artifact, &packed);
    assert!(matches!(store.unpack(&artifact), Err(StoreError::WrongBytes(_))));
    for folder in ["artifacts", "staging"] {
        assert_eq!(fs::read_dir(dir.path().join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (artifact, _) = zstd_artifact(&noise(100_000));
    let small = Room { quota_bytes: 150_000, spare_bytes: 0 };
    let refused = Store::open(OsDisk, dir.path(), small).unwrap().stage(&artifact).unwrap_err();
    assert!(matches!(refused, StoreError::NoRoom { free_bytes: 150_000, .. }), "{refused}");
    let spare = Room { quota_bytes: 1 << 40, spare_bytes: u64::MAX };
    assert!(matches!(
        Store::open(OsDisk, dir.path(), spare).unwrap().stage(&artifact),
        Err(StoreError::NoRoom { .. })
    ));
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
}

#[test]
fn collecting_keeps_what_is_needed_and_what_is_arriving() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    let mut digests = Vec::new();
    for content in [b"one", b"two"] {
        let (artifact, packed) = zstd_artifact(content);
        store.stage(&artifact).unwrap();
        put_all(&mut store, &artifact, &packed);
        store.unpack(&artifact).unwrap();
        digests.push(artifact.digest);
    }
    let (arriving, _) = zstd_artifact(&noise(100_000));
    store.stage(&arriving).unwrap();
    store.collect(&BTreeSet::from([digests[0]])).unwrap();
    assert!(store.path(&digests[0]).is_file() && !store.path(&digests[1]).is_file());
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 2, "packed, and room to unpack");
}

#[test]
fn an_artifact_that_changed_on_the_disk_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let (artifact, packed) = zstd_artifact(&noise(100_000));
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    for flip in [0, 50_000, 99_999] {
        store.stage(&artifact).unwrap();
        put_all(&mut store, &artifact, &packed);
        store.unpack(&artifact).unwrap();
        let mut bytes = fs::read(store.path(&artifact.digest)).unwrap();
        bytes[flip] ^= 1;
        fs::write(store.path(&artifact.digest), &bytes).unwrap();
        assert!(matches!(store.stage(&artifact).unwrap(), Opened::Staging(_)), "byte {flip}");
    }
}

#[test]
fn what_was_being_written_when_the_agent_was_killed_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    let kept = Digest::of(b"manifest");
    store.keep_manifest(&kept, b"manifest").unwrap();
    fs::write(crate::disk::beside(&store.path(&kept), "tmp"), b"mani").unwrap();
    assert_eq!(store.collect(&BTreeSet::from([kept])).unwrap(), 4);
    assert_eq!(fs::read_dir(dir.path().join("artifacts")).unwrap().count(), 1);
}

#[test]
fn a_manifest_that_cannot_be_read_is_not_taken_for_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(OsDisk, dir.path(), WIDE).unwrap();
    let digest = Digest::of(b"a manifest");
    assert!(matches!(store.manifest(&digest), Ok(None)));
    // A directory in its place opens and does not read, for root as well.
    fs::create_dir(store.path(&digest)).unwrap();
    assert!(store.manifest(&digest).is_err());
}

//! Stories without chance: an update, and one whose process is killed.

use super::Story;
use crate::{disk::SimDisk, image::ROOT, world::Violation};

/// After a kill the power fails at one of so many moments: by then the next process has saved and gone on.
const MOMENTS_AFTER_A_KILL: usize = 80;

impl Story<'_> {
    /// The folders of the store are gone, and are made anew by an agent whose ledger has all its room already.
    pub fn lose_folders(&mut self) -> Result<(), Violation> {
        self.world.connect(&self.server)?;
        let mut image = self.world.disk.live();
        let root = image.dirs.get_mut(&ROOT).expect("a disk has a root");
        root.retain(|_, node| image.files.contains_key(node));
        let disk = SimDisk::new(image, self.world.disk.state().facts.clone());
        disk.state().swallowed = self.swallowed;
        self.restart(disk)
    }

    /// Two versions come, and one of them is followed by another; nothing is killed.
    pub fn tell_of_an_update(&mut self) -> Result<(), Violation> {
        self.guarded(0, |story| story.world.connect(&story.server))?;
        for releases in [["digits@1", "faces@2"], ["digits@2", "faces@2"]] {
            self.guarded(1, |story| story.order(&releases))?;
            self.guarded(1, |story| story.world.live(&story.server))?;
        }
        Ok(())
    }

    /// Versions come, the process is killed after `operations` of them, starts again, and then the power fails at any
    /// moment. False when the story was over before.
    pub fn tell_of_a_kill(&mut self, operations: usize) -> Result<bool, Violation> {
        self.prepare_for_a_kill()?;
        self.world.disk.state().dies_after = Some(operations);
        self.update()?;
        if !self.world.disk.is_dead() {
            return Ok(false);
        }
        self.world.disk.state().records = true;
        self.restart(self.world.disk.clone())?;
        self.world.connect(&self.server)?;
        self.world.disk.state().moments.truncate(MOMENTS_AFTER_A_KILL);
        self.check_moments(2)?;
        Ok(true)
    }

    /// After how many operations of such a story a sync follows, and after how many it ends.
    pub fn syncs_of_an_update(&mut self) -> Result<(Vec<usize>, usize), Violation> {
        self.prepare_for_a_kill()?;
        let before = self.world.disk.state().log.len();
        self.update()?;
        let state = self.world.disk.state();
        let log = state.log[before..].iter().enumerate();
        let syncs = log.filter(|(_, operation)| operation.starts_with("sync")).map(|(index, _)| index);
        Ok((syncs.collect(), state.log.len() - before))
    }

    fn prepare_for_a_kill(&mut self) -> Result<(), Violation> {
        self.world.disk.state().records = false;
        self.world.connect(&self.server)?;
        self.order(&["digits@1", "faces@2"])?;
        self.world.live(&self.server)
    }

    fn update(&mut self) -> Result<(), Violation> {
        self.order(&["digits@2", "faces@2", "noise@1"])?;
        self.world.live(&self.server)
    }
}

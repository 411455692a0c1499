//! The last turn of a daemon that is stopped in order.
//!
//! First the processes end, then what they said is judged, then the core is told: a candidate that was alive until then
//! has taken nothing down, and its start does not count. The ledger is made durable before the last words leave.

use agent_core::{Effect, Ending, Input};
use shared::{challenger::ChallengerFigures, telemetry::VersionFigures};
use tokio::pin;

use super::{DriftNews, Shell, Sources, note};

impl Shell {
    pub(super) async fn wind_down(mut self, mut sources: Sources) {
        let (inputs, figures, matches, drift) = self.end_processes(&mut sources).await;
        inputs.into_iter().for_each(|input| self.handle(input));
        figures.iter().for_each(|figures| self.windows.add(figures));
        matches.iter().for_each(|figures| self.windows.add_match(figures));
        drift.into_iter().for_each(|news| self.take_drift(news));
        self.close_window();
        self.drift.finish().await;
        self.handle(Input::Stopped);
        if let Some(recorder) = &mut self.recorder {
            recorder.end(Ending::Stopped, &self.core);
        }
        if self.saved_once_more() {
            while let Some(effect) = self.core.poll_effect() {
                self.say(effect);
            }
        }
    }

    /// A disk that fails now is not waited for. Nothing is said then: it could not be remembered.
    fn saved_once_more(&mut self) -> bool {
        let floors = self.floors.borrow_and_update().clone();
        let saved = self.saved.save_if_changed(&self.core, &floors);
        if let Err(error) = saved {
            let why = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(why, "the ledger cannot be written at the end; this stop counts like a power cut");
            return false;
        }
        true
    }

    /// Waits for the processes, and takes what they say meanwhile: they must not wait for somebody who waits for them.
    async fn end_processes(
        &mut self,
        sources: &mut Sources,
    ) -> (Vec<Input>, Vec<VersionFigures>, Vec<ChallengerFigures>, Vec<DriftNews>) {
        let (mut inputs, mut figures, mut matches, mut drift) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let end = self.data_plane.end();
        pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                Some(input) = sources.inputs.recv() => inputs.push(input),
                Some(some) = sources.figures.recv() => figures.push(some),
                Some(some) = sources.matches.recv() => matches.push(some),
                Some(some) = sources.drift.recv() => drift.push(some),
            }
        }
        inputs.extend(std::iter::from_fn(|| sources.inputs.try_recv().ok()));
        figures.extend(std::iter::from_fn(|| sources.figures.try_recv().ok()));
        matches.extend(std::iter::from_fn(|| sources.matches.try_recv().ok()));
        drift.extend(std::iter::from_fn(|| sources.drift.try_recv().ok()));
        (inputs, figures, matches, drift)
    }

    /// Nothing is begun any more.
    fn say(&self, effect: Effect) {
        match effect {
            Effect::Send { report } => self.send(&report),
            Effect::Note(event) => note(&self.device, &event),
            _ => {}
        }
    }
}

//! Stories that people write down, and the transcripts that they expect.

use thiserror::Error;

use crate::{story::Story, transcript::Detail, world::tell};

/// A text is no story; the message says where and what to write.
#[derive(Debug, Error)]
#[error("this is no story: {0}")]
pub struct NoStory(#[from] toml::de::Error);

/// Reads a story.
///
/// # Errors
/// Says what is wrong and where.
pub fn read_story(text: &str) -> Result<Story, NoStory> {
    Ok(toml::from_str(text)?)
}

/// Tells a story and writes down what an operator would have seen. A broken rule is the last line.
#[must_use]
pub fn transcribe(story: &Story) -> String {
    let (end, transcript) = tell(story, None, Detail::Milestones);
    let last = match end {
        Ok(_) => String::new(),
        Err(violation) => format!("\nA RULE IS {violation}\n"),
    };
    format!("{}\n\n{transcript}{last}", story.title)
}

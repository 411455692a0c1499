//! One sample on its way from the runner to the process of a challenger: what went in, and what the champion answered.
//!
//! A frame is a little-endian `u32` length, that many bytes of JSON that describe the tensors, and their bytes one after the
//! other. The answer is a little-endian `u32`: the time that the challenger took, in microseconds. The process on the
//! other side runs a model that nobody vouches for, so this number is all that the runner ever reads from it.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use muster_engine::Tensor;
use serde::{Deserialize, Serialize};
use shared::{
    ReleaseId,
    manifest::{DataType, MAX_TENSORS},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest sample: a picture of 1280×720 in single precision has ten, and is not tried. Larger inputs would make the
/// queue of the runner more than what its memory limit leaves room for.
pub(crate) const MAX_SAMPLE_BYTES: usize = 8 * 1_024 * 1_024;

/// The description of [`MAX_TENSORS`] on both sides, with long names.
const MAX_HEADER_BYTES: usize = 256 * 1_024;

/// An inference that the champion has answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) champion: ReleaseId,
    pub(crate) inputs: Vec<(String, Tensor)>,
    pub(crate) outputs: Vec<Tensor>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    champion: ReleaseId,
    inputs: Vec<(String, Described)>,
    outputs: Vec<Described>,
}

#[derive(Serialize, Deserialize)]
struct Described {
    datatype: DataType,
    shape: Vec<u64>,
    size_bytes: usize,
}

impl Described {
    fn of(tensor: &Tensor) -> Self {
        let (datatype, shape) = (tensor.datatype(), tensor.shape().to_vec());
        Self { datatype, shape, size_bytes: tensor.data().len() }
    }

    fn take(self, rest: &mut Bytes) -> io::Result<Tensor> {
        if self.size_bytes > rest.len() {
            return Err(invalid("a tensor that is longer than the sample"));
        }
        let data = rest.split_to(self.size_bytes);
        Tensor::new(self.datatype, self.shape, data).map_err(|error| invalid(&error.to_string()))
    }
}

impl Sample {
    /// Bytes of all tensors.
    pub(crate) fn size_bytes(&self) -> usize {
        self.tensors().map(|tensor| tensor.data().len()).sum()
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.inputs.iter().map(|(_, tensor)| tensor).chain(&self.outputs)
    }

    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let inputs = self.inputs.iter().map(|(name, tensor)| (name.clone(), Described::of(tensor)));
        let header = Header {
            champion: self.champion.clone(),
            inputs: inputs.collect(),
            outputs: self.outputs.iter().map(Described::of).collect(),
        };
        let header = serde_json::to_vec(&header)?;
        let length = u32::try_from(header.len()).map_err(|_| invalid("a header without end"))?;
        to.write_all(&length.to_le_bytes()).await?;
        to.write_all(&header).await?;
        for tensor in self.tensors() {
            to.write_all(tensor.data()).await?;
        }
        Ok(())
    }

    /// The next sample; `None` when there are no more.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let length = match from.read_u32_le().await {
            Ok(length) => length as usize,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > MAX_HEADER_BYTES {
            return Err(invalid("the description of a sample is too long"));
        }
        let mut header = vec![0; length];
        from.read_exact(&mut header).await?;
        let header: Header = serde_json::from_slice(&header).map_err(|error| invalid(&error.to_string()))?;
        if header.inputs.len() > MAX_TENSORS || header.outputs.len() > MAX_TENSORS {
            return Err(invalid("a sample of too many tensors"));
        }
        let described = header.inputs.iter().map(|(_, described)| described).chain(&header.outputs);
        let size_bytes = described.fold(0_usize, |sum, one| sum.saturating_add(one.size_bytes));
        if size_bytes > MAX_SAMPLE_BYTES {
            return Err(invalid("a sample of too many bytes"));
        }
        let mut data = BytesMut::zeroed(size_bytes);
        from.read_exact(&mut data).await?;
        let mut rest = data.freeze();
        let inputs = header.inputs.into_iter().map(|(name, one)| Ok((name, one.take(&mut rest)?)));
        let inputs = inputs.collect::<io::Result<_>>()?;
        let outputs = header.outputs.into_iter().map(|one| one.take(&mut rest)).collect::<io::Result<_>>()?;
        Ok(Some(Self { champion: header.champion, inputs, outputs }))
    }
}

/// Tells the runner how long a sample took.
pub(crate) async fn write_time(to: &mut (impl AsyncWrite + Unpin), taken: Duration) -> io::Result<()> {
    let micros = u32::try_from(taken.as_micros()).unwrap_or(u32::MAX);
    to.write_all(&micros.to_le_bytes()).await
}

/// What the challenger says that it took.
pub(crate) async fn read_time(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Duration> {
    Ok(Duration::from_micros(from.read_u32_le().await?.into()))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample {
            champion: "m@1".parse().unwrap(),
            inputs: vec![
                ("x".into(), Tensor::from_f32(vec![1, 2], &[1.0, -2.0]).unwrap()),
                ("n".into(), Tensor::new(DataType::Int64, vec![], 7_i64.to_le_bytes().to_vec()).unwrap()),
            ],
            outputs: vec![Tensor::from_f32(vec![1, 3], &[0.1, 0.7, 0.2]).unwrap()],
        }
    }

    #[tokio::test]
    async fn samples_arrive_as_they_were_one_after_the_other() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let write = async {
            sample().write(&mut ours).await.unwrap();
            sample().write(&mut ours).await.unwrap();
            drop(ours);
        };
        let read = async {
            assert_eq!(Sample::read(&mut theirs).await.unwrap(), Some(sample()));
            assert_eq!(Sample::read(&mut theirs).await.unwrap(), Some(sample()));
            assert_eq!(Sample::read(&mut theirs).await.unwrap(), None);
        };
        tokio::join!(write, read);
        assert_eq!(sample().size_bytes(), 8 + 8 + 12);
    }

    #[tokio::test]
    async fn a_sample_beyond_the_bounds_is_refused_before_it_is_read() {
        let header = |size_bytes: usize| {
            serde_json::to_vec(&Header {
                champion: "m@1".parse().unwrap(),
                inputs: vec![],
                outputs: vec![Described { datatype: DataType::Uint8, shape: vec![4], size_bytes }],
            })
            .unwrap()
        };
        for size_bytes in [MAX_SAMPLE_BYTES + 1, usize::MAX] {
            let header = header(size_bytes);
            let frame = [&u32::try_from(header.len()).unwrap().to_le_bytes()[..], &header].concat();
            assert!(Sample::read(&mut &frame[..]).await.is_err());
        }
        assert!(Sample::read(&mut &u32::MAX.to_le_bytes()[..]).await.is_err());
    }
}

//! The stage in which a process that was started ahead waits for its program.
//!
//! A node starts it where the program will work: in its own session, group and sandbox, with limits, folder and output
//! in place. It knows nothing of the agent it becomes. One frame tells it the program, the arguments and the
//! environment, and then it *becomes* that program: number, parent, limits and sandbox stay. Whatever it was told is told
//! to it alone, over a socket pair that nobody else has an end of.
//!
//! The frame is `bytes: u32`, `args: u32` (both little-endian), then the program, the arguments and the variables
//! (`NAME=value`), each ended by a NUL. The stage answers nothing where it became the program, for the socket closes
//! then, and otherwise the number of the system's error.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// The variable that tells the stage which descriptor its end of the socket is.
pub(crate) const CHANNEL: &str = "QUORATE_HOLD";
/// The longest frame: half of what Linux takes as arguments and environment under the usual limit of the stack.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The longest argument or variable the kernel takes, without its NUL.
pub const WORD_BYTES_MAX: usize = (128 << 10) - 1;
/// `bytes` and `args`.
const HEADER_BYTES: usize = 8;

/// What a program is started with cannot be told to a process that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error(
        "program, arguments and environment take {bytes} bytes; a process of a fleet takes {FRAME_BYTES_MAX}"
    )]
    TooLong { bytes: usize },
    #[error("an argument or a variable takes {bytes} bytes; the kernel takes {WORD_BYTES_MAX}")]
    WordTooLong { bytes: usize },
    #[error("an argument or a variable holds a NUL byte, or a variable's name is none")]
    Malformed,
}

/// The stage itself: waits for one frame and becomes what it says. Answers only where that failed, after the node has been
/// told; ends quietly where the node went away without a frame.
///
/// To be called by a program that has one thread and has opened nothing, at its beginning.
pub fn hold() -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "only a node starts this");
    let number = std::env::var(CHANNEL).ok().and_then(|text| text.parse().ok()).ok_or_else(invalid)?;
    let mut channel = UnixStream::from(crate::sys::inherited(number)?);
    let Some((args, payload)) = read(&mut channel)? else { return Ok(()) };
    let mut words = payload.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let mut program = std::process::Command::new(words.next().ok_or_else(invalid)?);
    program.args(words.by_ref().take(args)).env_clear();
    for variable in words.filter(|word| !word.is_empty()) {
        // The first byte belongs to the name, whatever it is.
        let at = variable.as_bytes().iter().skip(1).position(|byte| *byte == b'=').ok_or_else(invalid)? + 1;
        let (name, value) = variable.as_bytes().split_at(at);
        program.env(OsStr::from_bytes(name), OsStr::from_bytes(&value[1..]));
    }
    let error = program.exec();
    channel.write_all(&error.raw_os_error().unwrap_or(0).to_le_bytes())?;
    Err(error)
}

/// The number of arguments and the words; nothing where the other end closed.
fn read(channel: &mut impl Read) -> io::Result<Option<(usize, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    match channel.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (bytes, args) = (number(0) as usize, number(4) as usize);
    if bytes > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; bytes];
    channel.read_exact(&mut payload)?;
    Ok(Some((args, payload)))
}

/// The frame that tells a stage what to become.
pub(crate) fn frame(
    program: &Path,
    args: &[OsString],
    env: &BTreeMap<OsString, OsString>,
) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    let mut word = |parts: &[&[u8]]| {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if bytes > WORD_BYTES_MAX {
            return Err(FrameError::WordTooLong { bytes });
        }
        if parts.iter().any(|part| part.contains(&0)) {
            return Err(FrameError::Malformed);
        }
        parts.iter().for_each(|part| frame.extend(*part));
        frame.push(0);
        Ok(())
    };
    word(&[program.as_os_str().as_bytes()])?;
    args.iter().try_for_each(|arg| word(&[arg.as_bytes()]))?;
    for (name, value) in env {
        if name.is_empty() || name.as_bytes()[1..].contains(&b'=') {
            return Err(FrameError::Malformed);
        }
        word(&[name.as_bytes(), b"=", value.as_bytes()])?;
    }
    let bytes = frame.len() - HEADER_BYTES;
    let too_long = FrameError::TooLong { bytes };
    if bytes > FRAME_BYTES_MAX {
        return Err(too_long);
    }
    let header = [bytes, args.len()].map(|number| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    frame[..HEADER_BYTES].copy_from_slice(&header.concat());
    Ok(frame)
}

/// Where a stage is started, and over what it is told.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The program and its first arguments.
    pub(crate) command: Vec<OsString>,
    /// The stage's end.
    pub(crate) channel: OwnedFd,
}

impl Stage {
    /// The command that becomes the stage.
    pub(crate) fn child(&self) -> std::process::Command {
        use std::os::fd::AsRawFd;
        let program = self.command.first().cloned().unwrap_or_else(|| OsString::from_vec(Vec::new()));
        let mut child = std::process::Command::new(program);
        child.args(self.command.iter().skip(1)).env_clear();
        child.env(CHANNEL, self.channel.as_raw_fd().to_string());
        child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let frame = frame(Path::new("/bin/x"), &["-c".into(), "".into()], &env(&[("A", "1=2"), ("=B", "")]));
        let payload = b"/bin/x\0-c\0\0=B=\0A=1=2\0";
        let header = [u32::try_from(payload.len()).unwrap().to_le_bytes(), 2_u32.to_le_bytes()].concat();
        assert_eq!(frame.unwrap(), [header.as_slice(), payload].concat());
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused_before_it_is_sent() {
        let long = |bytes: usize| OsString::from("x".repeat(bytes));
        let told = |args: &[OsString], env| frame(Path::new("x"), args, &env);
        let error = told(&[long(WORD_BYTES_MAX + 1)], env(&[])).unwrap_err();
        assert_eq!(error, FrameError::WordTooLong { bytes: WORD_BYTES_MAX + 1 });
        assert!(told(&[long(WORD_BYTES_MAX)], env(&[])).is_ok());
        let many = vec![long(WORD_BYTES_MAX); 8];
        assert!(matches!(told(&many, env(&[("A", "1")])), Err(FrameError::TooLong { .. })));
        assert_eq!(told(&["a\0b".into()], env(&[])), Err(FrameError::Malformed));
        for (name, value) in [("", "1"), ("A=B", "1"), ("A", "\0")] {
            assert_eq!(told(&[], env(&[(name, value)])), Err(FrameError::Malformed));
        }
    }

    #[test]
    fn a_channel_that_closes_before_a_frame_is_no_mistake_and_half_a_frame_is() {
        assert!(read(&mut &b""[..]).unwrap().is_none());
        let whole = frame(Path::new("x"), &[], &env(&[])).unwrap();
        assert_eq!(read(&mut whole.as_slice()).unwrap(), Some((0, b"x\0".to_vec())));
        assert!(read(&mut &whole[..whole.len() - 1]).is_err());
        assert!(read(&mut &[0xff_u8; 8][..]).is_err());
    }
}

//! A person's session on a machine, with the tool that runs in it.
//!
//! In: a command. Out: that it has said a word, or that it is dead. Never: one that lives on.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Result;

pub struct Session {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Session {
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("the session has no output")?);
        Ok(Self { child, output })
    }

    /// Until it writes this line.
    pub fn wait_for(&mut self, word: &str) -> Result<()> {
        for line in self.output.by_ref().lines() {
            if line? == word {
                return Ok(());
            }
        }
        Err(format!("the session ended before it said `{word}`").into())
    }

    /// SIGKILL, for the whole session.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

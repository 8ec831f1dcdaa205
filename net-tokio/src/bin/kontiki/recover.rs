//! x
use crate::failure::{Exit, Failure};
use crate::output::Format;
#[derive(clap::Args, Debug)]
pub(crate) struct Recover {}
impl Recover {
    pub(crate) fn run(self, _format: Format) -> Result<Exit, Failure> {
        Ok(Exit::Done)
    }
}

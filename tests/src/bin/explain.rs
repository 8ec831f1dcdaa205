//! Shows a script of tests/data as a page:
//!
//!     cargo run -p kontiki-tests --bin explain -- tests/data/election.txt

use clap::Parser;
use kontiki_tests::script;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a page that shows a script as a space-time diagram
#[derive(Parser, Debug)]
struct Explain {
    /// The script
    file: PathBuf,
    /// Where to write the page; in this directory where nothing is said
    #[arg(short, long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Explain { file, out } = Explain::parse();
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = out.unwrap_or_else(|| PathBuf::from(&name).with_extension("html"));
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: cannot read {}: {error}; name a script, as in tests/data", file.display());
            return ExitCode::from(2);
        }
    };
    let diagram = script::explain(&text, name);
    if let Err(error) = std::fs::write(&out, diagram.to_html()) {
        eprintln!("error: cannot write {}: {error}; name a file that can be written with -o", out.display());
        return ExitCode::from(2);
    }
    println!("{}: {} events; open it in a browser", out.display(), diagram.events.len());
    ExitCode::SUCCESS
}

//! The program: reads the command line and runs what it asks for.

use holdfast::{cli, start};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), &start::version()) {
        Ok(command) => command,
        Err(exit) if exit.code == 0 => {
            return match cli::tell(&mut std::io::stdout().lock(), &format!("{}\n", exit.text)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(exit) => {
            eprintln!("{}", exit.text);
            return ExitCode::from(exit.code);
        }
    };
    start::run(command)
}

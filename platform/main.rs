//! The program: reads the command line and runs what it asks for.

use holdfast::{cli, start};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), &start::version()) {
        Ok(command) => command,
        Err(exit) if exit.code == 0 => {
            println!("{}", exit.text);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            eprintln!("{}", exit.text);
            return ExitCode::from(exit.code);
        }
    };
    start::run(command)
}

//! gatefold's recurrent networks on a GPU, and cuDNN's in the same process over the same memory; the step kernels alone; training.
//!
//! `cargo bench --features cudnn --bench cuda -- --output benches/results/gpu-DATE.json`, then `scripts/performance-report`.
//! `-- --help` lists the settings. Results are compared before anything is timed. What comes first is what matters most: at the end
//! of `--seconds` the rest is left out, and listed. Exit status 0: everything agreed and nothing failed.

#[path = "cuda/contender.rs"]
mod contender;
#[path = "cuda/cudnn.rs"]
mod cudnn;
#[path = "../tests/gpu/environment.rs"]
#[allow(dead_code, reason = "its main is that of the program of its own")]
mod environment;
#[path = "cuda/gpu.rs"]
mod gpu;
#[path = "cuda/grid.rs"]
mod grid;
#[path = "cuda/pointwise.rs"]
mod pointwise;
#[path = "cuda/timer.rs"]
mod timer;
#[path = "cuda/training.rs"]
mod training;

use std::{
    env, fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use contender::{CONTENDERS, Memories, Results, Stop, difference};
use gpu::{Gpu, Result};
use grid::{Case, Precision};
use serde_json::{Value, json};
use timer::{Key, Timer};

/// Measure gatefold's recurrent networks on a GPU, with cuDNN's beside them.
#[derive(Parser)]
#[command(name = "cuda")]
struct Settings {
    /// Where to write the measurements, as JSON [default: nowhere]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Seconds after which no further measurement begins
    #[arg(long, default_value_t = 1200)]
    seconds: u64,
    /// Only sizes, networks and precisions whose name has this in it, such as "LSTM bf16" or "B64 H512"
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Allow this many times the difference between results that is allowed by itself
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    tolerance: f64,
    /// Measure only contenders whose name has this in it; the first computes the results that others are compared with all the same
    #[arg(long, value_name = "TEXT", default_value = "")]
    contender: String,
    /// Milliseconds that a row is measured for, behind half as long to warm up
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    row: u64,
    /// Tiny sizes and short times, to see whether everything runs and agrees
    #[arg(long)]
    smoke: bool,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// One thing to measure.
enum Task {
    Copy(usize),
    Sequence(Case),
    Training(training::Program),
    Pointwise(Case),
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Copy(bytes) => write!(f, "copy: {bytes} bytes"),
            Task::Sequence(case) => write!(f, "sequence: {case}"),
            Task::Training(program) => write!(f, "training: {program:?}"),
            Task::Pointwise(case) => write!(f, "pointwise: {case}"),
        }
    }
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    match run(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("benches/cuda.rs: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<bool> {
    let began = SystemTime::now();
    let environment = environment::environment()?;
    let gpu = Gpu::open()?;
    let cudnn = cudnn::version();
    println!("{environment}");
    match &cudnn {
        Ok(version) => println!("cuDNN {version}"),
        Err(why) => println!("skipped: cuDNN: {why}"),
    }
    if gpu.software {
        println!("The driver is the one in software: times are those of this processor, and are not kept.");
    }
    let folder = env::temp_dir().join(format!("gatefold-criterion-{}", std::process::id()));
    let mut timer =
        Timer::new(&gpu, &folder, Duration::from_secs(settings.seconds), if settings.smoke { 2 } else { settings.row });
    let mut tasks = tasks(settings).into_iter();
    while let Some(task) = tasks.next() {
        let done = match &task {
            Task::Copy(bytes) => pointwise::copy(&mut timer, *bytes),
            Task::Sequence(case) => sequence(&mut timer, case, settings, cudnn.is_ok()),
            Task::Training(program) => training::measure(&mut timer, *program, settings.smoke),
            Task::Pointwise(case) => pointwise::measure(&mut timer, case),
        };
        if let Err(what) = done {
            timer.fault(what);
        }
        // A kernel that failed takes the context along: nothing that follows would mean anything.
        if let Err(what) = gpu.synchronize() {
            timer.fault(format!("{task}: {what}; the rest is left out"));
            break;
        }
        // Whoever ends this process has what was measured so far.
        if let Some(path) = &settings.output {
            let left = tasks.as_slice().iter().map(Task::to_string);
            write(path, &report(settings, began, environment.clone(), &cudnn, &timer, left))
                .map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    timer.left_out.extend(tasks.map(|task| task.to_string()));
    let _ = fs::remove_dir_all(&folder);

    let right = timer.wrong.is_empty();
    let report = report(settings, began, environment, &cudnn, &timer, []);
    println!(
        "{} rows, {} refused, {} left out, {} wrong, {} s",
        timer.rows.len(),
        timer.refused.len(),
        timer.left_out.len(),
        timer.wrong.len(),
        timer.spent().as_secs()
    );
    if let Some(path) = &settings.output {
        write(path, &report).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(right)
}

/// The most important first. Training and the step kernels come behind the dozen networks that matter most.
fn tasks(settings: &Settings) -> Vec<Task> {
    let copies = if settings.smoke { [1 << 16, 1 << 20] } else { [1 << 20, 1 << 30] };
    let fits = |case: &Case| case.to_string().contains(&settings.only);
    let mut sequences = grid::cases(settings.smoke).into_iter().filter(fits).map(Task::Sequence);
    let mut tasks: Vec<Task> = copies.map(Task::Copy).into();
    tasks.extend(sequences.by_ref().take(12));
    if settings.only.is_empty() {
        tasks.extend(training::PROGRAMS.map(Task::Training));
    }
    tasks.extend(pointwise::cases(settings.smoke).into_iter().filter(fits).map(Task::Pointwise));
    tasks.extend(sequences);
    tasks
}

/// All contenders for one network: their results are compared, then those that agree are timed.
fn sequence(timer: &mut Timer<'_>, case: &Case, settings: &Settings, has_cudnn: bool) -> Result<()> {
    let tolerance = settings.tolerance * case.precision.tolerance();
    if timer.is_over(format!("sequence: {case}")) {
        return Ok(());
    }
    let gpu = timer.gpu;
    let memories = Memories::new(gpu, case)?;
    let mut reference: Option<Results> = None;
    for (place, &(name, make)) in CONTENDERS.iter().enumerate() {
        let measured = name.contains(&settings.contender);
        if place > 0 && !measured {
            continue;
        }
        if name.starts_with("cuDNN") && !has_cudnn || timer.is_over(format!("sequence: {case}, {name}")) {
            continue;
        }
        let made = make(gpu, case, &memories).and_then(|mut contender| {
            let results = memories.results_of(gpu, &mut *contender)?;
            Ok((contender, results))
        });
        let (mut contender, results) = match made {
            Ok(made) => made,
            Err(Stop::Refused(status)) => {
                timer.refuse(case, name, status);
                gpu.synchronize().map_err(|e| format!("{case}, behind {name}: {e}"))?;
                continue;
            }
            Err(Stop::Failed(what)) => {
                timer.fault(format!("{case}, {name}: {what}"));
                continue;
            }
        };
        let apart = reference.as_ref().map(|reference| difference(&results, reference));
        if let Some((apart, of)) = &apart
            && *apart > tolerance
        {
            timer.fault(format!("{case}, {name}: {of} is off by {apart:.3e}, and {tolerance:.3e} is allowed"));
            continue;
        }
        reference.get_or_insert(results);
        if !measured {
            continue;
        }
        let apart = apart.map(|(apart, _)| apart);
        let key = |mode, flops| Key::of(case, "sequence", name, mode).flops(flops).difference(apart);
        let told = |stop| match stop {
            Stop::Refused(what) | Stop::Failed(what) => what,
        };
        for (mode, training) in [("inference", false), ("training", true)] {
            if name.contains("tune B") {
                continue;
            }
            timer.gpu_time(key(mode, case.flops()), || contender.forward(training).map_err(told))?;
        }
        if name.contains("tune F") {
            continue;
        }
        timer.gpu_time(key("backward", 3 * case.flops()), || {
            contender.forward(true).and_then(|()| contender.backward()).map_err(told)
        })?;
    }
    Ok(())
}

fn report(
    settings: &Settings,
    began: SystemTime,
    mut header: Value,
    cudnn: &std::result::Result<String, String>,
    timer: &Timer<'_>,
    left: impl IntoIterator<Item = String>,
) -> Value {
    header["date"] = json!(date(began));
    header["commit"] = json!(commit());
    header["gatefold"] = json!(env!("CARGO_PKG_VERSION"));
    header["cudnn"] = json!(cudnn.as_ref().ok());
    header["no_cudnn"] = json!(cudnn.as_ref().err());
    header["softgpu"] = json!(timer.gpu.software);
    header["smoke"] = json!(settings.smoke);
    header["only"] = json!(settings.only);
    header["contender"] = json!(settings.contender);
    header["row_ms"] = json!(settings.row);
    header["seconds_allowed"] = json!(settings.seconds);
    header["seconds_spent"] = json!(timer.spent().as_secs());
    let tolerances: serde_json::Map<String, Value> =
        Precision::ALL.iter().map(|p| (p.name().into(), json!(settings.tolerance * p.tolerance()))).collect();
    json!({
        "format": "gatefold-gpu-bench-1",
        "header": header,
        "contenders": CONTENDERS.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "tolerances": tolerances,
        "rows": timer.rows,
        "refused": timer.refused,
        "wrong": timer.wrong,
        "left_out": timer.left_out.iter().cloned().chain(left).collect::<Vec<_>>(),
    })
}

/// To a temporary name, which becomes the file's when all of it is on the disk.
fn write(path: &Path, report: &Value) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let mut file = fs::File::create(&name)?;
    // A row to a line.
    let text = serde_json::to_string(report)?.replace("},{", "},\n{");
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&name, path)
}

/// The day and time of UTC, as ISO 8601 has it.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // Days to a date by eras of 400 years that begin in March: H. Hinnant, "chrono-compatible low-level date algorithms".
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * from_march + 2) / 5 + 1, (from_march + 2) % 12 + 1);
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// What was measured: as the bundle says, or the checkout.
fn commit() -> String {
    if let Ok(commit) = env::var("GATEFOLD_COMMIT") {
        return commit;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    match git(&["rev-parse", "--short", "HEAD"]) {
        Some(commit) if git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty()) => commit,
        Some(commit) => format!("{commit}, changed"),
        None => "unknown".into(),
    }
}

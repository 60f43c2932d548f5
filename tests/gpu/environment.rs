//! What the GPU tests ran on, as one line of JSON: GPU, driver, cuBLAS. Fails, saying what is missing, where gatefold could not run.

use cudarc::{
    cublas::sys as cublas,
    driver::{
        result::{self, device},
        sys::{self, CUdevice_attribute_enum as Attribute, CUresult},
    },
};

fn main() {
    match environment() {
        Ok(line) => println!("{line}"),
        Err(missing) => {
            eprintln!("{missing}");
            std::process::exit(1);
        }
    }
}

/// benches/cuda.rs says the same of itself.
pub fn environment() -> Result<serde_json::Value, String> {
    // SAFETY: opens and closes the library.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver: no libcuda could be opened".into());
    }
    let asked = |what: &'static str| move |e: result::DriverError| format!("{what}: {:?}", e.0);
    result::init().map_err(asked("cuInit"))?;
    if device::get_count().map_err(asked("cuDeviceGetCount"))? == 0 {
        return Err("the NVIDIA driver sees no GPU".into());
    }
    gatefold::Device::Cuda(0).check("environment").map_err(|e| e.to_string())?;
    let gpu = device::get(0).map_err(asked("cuDeviceGet"))?;
    let name = device::get_name(gpu).map_err(asked("cuDeviceGetName"))?;
    // SAFETY: the device is the driver's.
    let (memory, number) = unsafe {
        let number = |attribute| device::get_attribute(gpu, attribute).map_err(asked("cuDeviceGetAttribute"));
        (device::total_mem(gpu).map_err(asked("cuDeviceTotalMem"))?, number)
    };
    let major = number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let multiprocessors = number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let mut cuda = 0;
    // SAFETY: writes one number.
    if unsafe { sys::cuDriverGetVersion(&mut cuda) } != CUresult::CUDA_SUCCESS {
        return Err("cuDriverGetVersion failed".into());
    }
    Ok(serde_json::json!({
        "gpu": name,
        "compute_capability": format!("{major}.{minor}"),
        "multiprocessors": multiprocessors,
        "memory_bytes": memory,
        "cuda_of_driver": format!("{}.{}", cuda / 1000, cuda % 1000 / 10),
        "driver": driver(),
        "cublas": cublas_version()?,
    }))
}

/// As the kernel module tells it: `580.65.06`. The library has no word for it.
fn driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let looks = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(looks).map(String::from)
}

fn cublas_version() -> Result<String, String> {
    // SAFETY: opens and closes the library.
    if !unsafe { cublas::is_culib_present() } {
        return Err("there is no cuBLAS: no libcublas could be opened".into());
    }
    use cublas::libraryPropertyType_t as Part;
    let parts = [Part::MAJOR_VERSION, Part::MINOR_VERSION, Part::PATCH_LEVEL].map(|part| {
        let mut number = 0;
        // SAFETY: writes one number.
        let status = unsafe { cublas::cublasGetProperty(part, &mut number) };
        (status == cublas::cublasStatus_t::CUBLAS_STATUS_SUCCESS).then(|| number.to_string())
    });
    let parts: Option<Vec<String>> = parts.into_iter().collect();
    parts.map(|parts| parts.join(".")).ok_or_else(|| "cublasGetProperty failed".into())
}

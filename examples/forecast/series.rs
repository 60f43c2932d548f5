//! The series: where they are, and what is made of them before they are learned from.

use std::{f64::consts::TAU, ops::Range};

use clap::ValueEnum;
use gatefold::{
    Result,
    data::{Standard, Table, fill_missing},
};

use crate::common;

#[derive(Clone, Copy, ValueEnum)]
pub enum Set {
    /// Temperature at New York's JFK airport in °F, hourly
    Nyc,
    /// Highest temperature in Seattle in °C, daily
    Seattle,
    /// Airline passengers in thousands, monthly
    Airline,
}

pub struct About {
    file: &'static str,
    /// That to predict first.
    pub columns: &'static [&'static str],
    /// Steps that are seen.
    pub seen: usize,
    /// Steps to a day or a year.
    period: f64,
    /// The column of the hour, where hours are missing.
    clock: Option<&'static str>,
}

impl Set {
    pub fn about(self) -> About {
        match self {
            Set::Nyc => About {
                file: "weather/nyc_jfk_weather_2013_hourly.csv",
                columns: &["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"],
                seen: 48,
                period: 24.0,
                clock: Some("hour"),
            },
            Set::Seattle => About {
                file: "weather/seattle-weather.csv",
                columns: &["temp_max", "temp_min", "precipitation", "wind"],
                seen: 21,
                period: 365.25,
                clock: None,
            },
            Set::Airline => About {
                file: "airline/airline_passengers.csv",
                columns: &["Passengers"],
                seen: 24,
                period: 12.0,
                clock: None,
            },
        }
    }
}

/// Standardised rows and their width, mean and deviation of each feature; the rows to train on (70 %), to validate (10 %), to test.
type Data = (Vec<f32>, usize, Standard, [Range<usize>; 3]);

impl About {
    /// The columns without gaps, and the sine and cosine of the time of day or year.
    pub fn read(&self) -> Result<Data> {
        let table = Table::csv(common::data(None, self.file))?;
        let count = table.len();
        let mut features: Vec<Vec<f64>> = Vec::new();
        for column in self.columns {
            let (filled, missing) = fill_missing(&table.numbers_or_missing(column)?)?;
            let note = if missing > 0 { ", the last before taken" } else { "" };
            println!("{column}: {count} rows, {missing} missing{note}");
            features.push(filled);
        }
        let time = match self.clock {
            Some(column) => table.numbers(column)?,
            None => (0..count).map(|i| i as f64).collect(),
        };
        features.extend([f64::sin, f64::cos].map(|wave| time.iter().map(|t| wave(TAU * t / self.period)).collect()));
        let width = features.len();
        let mut rows: Vec<f32> = (0..count).flat_map(|i| features.iter().map(move |column| column[i] as f32)).collect();
        // By the training rows alone: what comes later is not known then.
        let (a, b) = (count * 7 / 10, count * 8 / 10);
        let standard = Standard::fit(&rows[..a * width], width)?;
        standard.apply(&mut rows);
        Ok((rows, width, standard, [0..a, a..b, b..count]))
    }
}

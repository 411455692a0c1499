//! Findings as people read them.

use std::fmt;

use muster_sketch::{
    detector::{Direction, Finding, Oddity, Scope, ScoreName, Sign},
    quality::{QualityFinding, QualityKind},
};

use super::{Cause, Found, Level, RaisedBy};

/// A number with more decimal places is read with an exponent.
const MAX_PLACES: usize = 6;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: ", self.feature, whose(&self.scope))?;
        let category = self.category.as_deref();
        match &self.cause {
            Cause::Drift { finding, .. } => drift(f, finding, category, self.level())?,
            Cause::Quality { finding, devices } => quality(f, finding, *devices)?,
            Cause::OddBaseline { oddity, z, figure, median } => {
                let side = if *z > 0.0 { "above" } else { "below" };
                write!(f, "{} is odd from the first day: {figure:.3}, ", oddly(*oddity, category))?;
                write!(f, "{:.0} robust standard deviations {side} the median of {median:.3}", z.abs())?;
            }
        }
        match self.raised_by {
            RaisedBy::Server => Ok(()),
            RaisedBy::Device => f.write_str(", as the device says"),
        }
    }
}

impl Found {
    /// How large the number was. What was counted when the server found it last says nothing of what its device saw.
    fn level(&self) -> Option<&Level> {
        match self.raised_by {
            RaisedBy::Server => self.evidence.as_ref()?.level.as_ref(),
            RaisedBy::Device => None,
        }
    }
}

/// Whose it is, in words.
#[must_use]
pub fn whose(scope: &Scope) -> String {
    match scope {
        Scope::Sensor { device } => device.clone(),
        Scope::Stratum { key, value } => format!("devices with {key}={value}"),
        Scope::Model => "devices with this release and not the others".into(),
        Scope::World => "all devices".into(),
    }
}

/// The shift is one of the score, whose scale is not the feature's: a rank moves by 1.73 at most, and a share that is rare by 100.
fn drift(
    f: &mut fmt::Formatter<'_>,
    finding: &Finding,
    category: Option<&str>,
    level: Option<&Level>,
) -> fmt::Result {
    let alarm = &finding.alarm;
    let (moved, shift) = (moved(alarm.direction, category), alarm.shift.abs());
    match level {
        Some(level) => write!(f, "{moved}: {level} (its score {shift:.2} deviations off; ")?,
        None => write!(f, "{moved} by {shift:.2} standard deviations of its score (")?,
    }
    write!(f, "evidence {:.1e}, alarm at {:.1e}", alarm.evidence, alarm.threshold)?;
    match finding.devices {
        1 => f.write_str(")"),
        devices => write!(f, "; {devices} devices, of which {} alarmed alone)", finding.devices_alarmed),
    }
}

fn quality(f: &mut fmt::Formatter<'_>, finding: &QualityFinding, devices: usize) -> fmt::Result {
    let QualityFinding { kind, count, rows, share, expected } = finding;
    match kind {
        QualityKind::Stuck => write!(f, "stuck, one value {count} times in a row")?,
        QualityKind::Missing
        | QualityKind::NonFinite
        | QualityKind::OutOfRange
        | QualityKind::NewCategory => {
            let what = match kind {
                QualityKind::Missing => "missing",
                QualityKind::NonFinite => "not finite",
                QualityKind::OutOfRange => "outside of the reference's range",
                QualityKind::NewCategory | QualityKind::Stuck => "of no category of the reference",
            };
            write!(
                f,
                "{:.2} % {what} ({count} of {rows}, expected {:.2} %)",
                100.0 * share,
                100.0 * expected
            )?;
        }
    }
    if devices > 1 { write!(f, " on {devices} devices") } else { Ok(()) }
}

/// Devices are held against their own past, which need not be like the reference: so it is not said that it was like that.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.is_cut { ", far values cut" } else { "" };
        let figure = |value: f64| self.figure(value);
        let [counted, reference] = [self.counted, self.reference]
            .map(|of| format!("{} ± {}", figure(of.mean), figure(of.deviation)));
        write!(f, "mean {counted}{cut}, {reference} in the reference")
    }
}

impl Level {
    /// With as many places as show two digits of the reference's deviation.
    fn figure(&self, value: f64) -> String {
        let of = [self.reference.deviation, self.counted.deviation, self.counted.mean.abs()];
        let unit = of.into_iter().find(|&of| of > 0.0).unwrap_or(1.0);
        let places = (1.0 - unit.log10().floor()).max(0.0);
        if places > MAX_PLACES as f64 || value.abs() >= 1e9 {
            return format!("{value:.3e}");
        }
        let value = if value.abs() < 0.5 * 10_f64.powf(-places) { 0.0 } else { value };
        format!("{value:.*}", places as usize)
    }
}

/// What moved and which way; a category by its name where that is known.
pub(crate) fn moved(Direction { score, sign }: Direction, category: Option<&str>) -> String {
    let side = |more: &str, less: &str| if sign == Sign::Up { more.to_owned() } else { less.to_owned() };
    match score {
        ScoreName::Location => side("larger", "smaller"),
        ScoreName::Spread => side("wider", "narrower"),
        ScoreName::Skew => side("skewed upwards", "skewed downwards"),
        ScoreName::LowerTail | ScoreName::FarLowerTail => {
            side("more at the lower end", "less at the lower end")
        }
        ScoreName::UpperTail | ScoreName::FarUpperTail => {
            side("more at the upper end", "less at the upper end")
        }
        ScoreName::OutsideRange => side("more outside of the range", "less outside of the range"),
        ScoreName::Region(part) => {
            format!("{} in eighth {} of the reference", side("more", "less"), u32::from(part) + 1)
        }
        ScoreName::Category(place) => {
            format!("{} of {}", side("more", "less"), named(category, place))
        }
        ScoreName::OtherCategories => side("more of the rare categories", "less of the rare categories"),
        ScoreName::UnseenCategory => side("more of unknown categories", "less of unknown categories"),
    }
}

fn named(category: Option<&str>, place: u32) -> String {
    category.map_or_else(|| format!("category {}", u64::from(place) + 1), |name| format!("'{name}'"))
}

fn oddly(oddity: Oddity, category: Option<&str>) -> String {
    match oddity {
        Oddity::Level => "its level".into(),
        Oddity::Variation => "how much it varies".into(),
        Oddity::Share(score) => format!(
            "its share of {}",
            match score {
                ScoreName::Category(place) => named(category, place),
                ScoreName::UnseenCategory => "unknown categories".into(),
                ScoreName::OtherCategories
                | ScoreName::Location
                | ScoreName::Spread
                | ScoreName::Skew
                | ScoreName::LowerTail
                | ScoreName::UpperTail
                | ScoreName::FarLowerTail
                | ScoreName::FarUpperTail
                | ScoreName::OutsideRange
                | ScoreName::Region(_) => "the rare categories".into(),
            }
        ),
    }
}

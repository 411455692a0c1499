//! Findings as people read them.

use std::fmt;

use muster_sketch::{
    detector::{Direction, Finding, Oddity, Scope, ScoreName, Sign},
    quality::{QualityFinding, QualityKind},
};

use super::{Cause, Found, RaisedBy};

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.feature, whose(&self.scope), self.cause)?;
        match self.raised_by {
            RaisedBy::Server => Ok(()),
            RaisedBy::Device => f.write_str(", as the device says"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drift { finding, .. } => drift(f, finding),
            Self::Quality { finding, devices } => quality(f, finding, *devices),
            Self::OddBaseline { oddity, z, figure, median } => {
                let side = if *z > 0.0 { "above" } else { "below" };
                write!(f, "{} is odd from the first day: {figure:.3}, ", oddly(*oddity))?;
                write!(f, "{:.0} robust standard deviations {side} the median of {median:.3}", z.abs())
            }
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

fn drift(f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
    let alarm = &finding.alarm;
    write!(f, "{} by {:.2} standard deviations", moved(alarm.direction), alarm.shift.abs())?;
    write!(f, " (evidence {:.1e}, alarm at {:.1e}", alarm.evidence, alarm.threshold)?;
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

/// What moved and which way.
pub(crate) fn moved(Direction { score, sign }: Direction) -> String {
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
            format!("{} in eighth {} of the range", side("more", "less"), u32::from(part) + 1)
        }
        ScoreName::Category(place) => format!("{} of category {}", side("more", "less"), place + 1),
        ScoreName::OtherCategories => side("more of the rare categories", "less of the rare categories"),
        ScoreName::UnseenCategory => side("more of unknown categories", "less of unknown categories"),
    }
}

fn oddly(oddity: Oddity) -> String {
    match oddity {
        Oddity::Level => "its level".into(),
        Oddity::Variation => "how much it varies".into(),
        Oddity::Share(score) => format!(
            "its share of {}",
            match score {
                ScoreName::Category(place) => format!("category {}", place + 1),
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

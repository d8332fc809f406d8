//! Colours: by what they mean, on dark and on light ground.
//!
//! What is named by a trace (processes, …) has one of 24 colours by its name, the same in every
//! picture. Those are the hues from green over blue to pink, in three lightnesses, so that who
//! sees few hues still tells neighbours apart; yellow and red are kept for what waits and for
//! what is wrong.

/// A colour, sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    const fn hex(c: u32) -> Self {
        Self((c >> 16) as u8, (c >> 8) as u8, c as u8)
    }

    /// `part` of 255 of the other one, the rest of this one.
    #[must_use]
    pub fn mix(self, other: Self, part: u8) -> Self {
        let part = u32::from(part);
        let one =
            |a: u8, b: u8| ((u32::from(a) * (255 - part) + u32::from(b) * part + 127) / 255) as u8;
        Self(one(self.0, other.0), one(self.1, other.1), one(self.2, other.2))
    }

    /// Whether black is read better on it than white.
    #[must_use]
    pub fn is_light(self) -> bool {
        // Light is about the square of a value; half way, for the eye, is about a fifth of it.
        let light = |c: u8, part: u32| u32::from(c) * u32::from(c) * part;
        light(self.0, 213) + light(self.1, 715) + light(self.2, 72) > 255 * 255 * 190
    }
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ink {
    /// Nothing is known.
    Unknown,
    /// It is there and does nothing.
    Idle,
    /// Could run, and has no CPU.
    Waiting,
    /// Waits for a device or a lock, and cannot be interrupted.
    Blocked,
    /// Several things that are not told apart.
    Others,
    /// The kernel's own: interrupts.
    Interrupt,
    /// Something of this name.
    Named(u32),
    /// How many events there are.
    Count,
    /// How large something is.
    Value,
    /// Something is missing.
    Lost,
}

impl Ink {
    /// Of a name: the same for the same name, always (FNV-1a).
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash =
            name.bytes().fold(0x811C_9DC5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        // Its low bits differ little between names that differ little.
        Self::Named(hash ^ (hash >> 15))
    }
}

/// What it is drawn on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Light on dark.
    #[default]
    Dark,
    /// Dark on light.
    Light,
}

const NAMED_DARK: [u32; 24] = [
    0xA1B656, 0x6CC180, 0x2DC4AE, 0x17C0D6, 0x57B5F1, 0x8CA6FA, 0xB798EE, 0xD78DD0, 0x678F37,
    0x229666, 0x009791, 0x0090B3, 0x3E84C8, 0x7276C9, 0x9769B8, 0xB06098, 0xAADA9F, 0x88DFC1,
    0x78DEE3, 0x86D7FD, 0xA6CCFF, 0xC9C0FF, 0xE7B7F1, 0xFBB1D3,
];
const NAMED_LIGHT: [u32; 24] = [
    0x7D912E, 0x469B5C, 0x009E89, 0x0099AF, 0x2C8FC9, 0x6981D1, 0x9273C6, 0xB068AA, 0x4B7013,
    0x00784A, 0x007873, 0x007294, 0x1D66A7, 0x5758A8, 0x794C98, 0x904379, 0x7FBE71, 0x43C49F,
    0x08C2CA, 0x43B9EA, 0x7CABF9, 0xAA9DF4, 0xCE90DC, 0xE589B6,
];

impl Theme {
    fn choose(self, dark: u32, light: u32) -> Rgb {
        Rgb::hex(if self == Self::Dark { dark } else { light })
    }

    /// The colour of something.
    #[must_use]
    pub fn ink(self, ink: Ink) -> Rgb {
        match ink {
            Ink::Unknown => self.page(),
            Ink::Idle => self.lane(),
            Ink::Waiting => self.choose(0x6E531F, 0xF6D795),
            Ink::Blocked => self.choose(0xD5504A, 0xC23B35),
            Ink::Others => self.choose(0x7D8590, 0x9AA1A9),
            Ink::Interrupt => self.choose(0xF0E442, 0xB8A800),
            Ink::Named(hash) => {
                let place = hash as usize % NAMED_DARK.len();
                self.choose(NAMED_DARK[place], NAMED_LIGHT[place])
            }
            Ink::Count => self.choose(0x4C9BE8, 0x2F7FCC),
            Ink::Value => self.choose(0x3FC1A5, 0x0A8F76),
            Ink::Lost => self.choose(0xFF6B5E, 0xD0281E),
        }
    }

    /// What is behind all.
    #[must_use]
    pub fn page(self) -> Rgb {
        self.choose(0x0F1318, 0xFFFFFF)
    }
    /// A lane in which nothing happens.
    #[must_use]
    pub fn lane(self) -> Rgb {
        self.choose(0x1E252E, 0xEDF0F4)
    }
    /// Lines through all lanes.
    #[must_use]
    pub fn grid(self) -> Rgb {
        self.choose(0x364250, 0xCBD2DA)
    }
    /// Text.
    #[must_use]
    pub fn text(self) -> Rgb {
        self.choose(0xE9EDF2, 0x16191D)
    }
    /// Text that is less important.
    #[must_use]
    pub fn dim(self) -> Rgb {
        self.choose(0x8F9BA9, 0x66707C)
    }
    /// Text on a colour.
    #[must_use]
    pub fn on(self, colour: Rgb) -> Rgb {
        if colour.is_light() { Rgb::hex(0x0B0E12) } else { Rgb::hex(0xFFFFFF) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_colour_and_names_have_different_ones() {
        assert_eq!(Ink::of("cc1"), Ink::of("cc1"));
        assert_eq!(Ink::of("cc1"), Ink::Named(0xB56E_3588), "the same in every picture");
        let inks: std::collections::BTreeSet<_> = (0..8)
            .map(|n| match Ink::of(&format!("kworker/{n}")) {
                Ink::Named(hash) => hash % 24,
                _ => unreachable!("it is a name"),
            })
            .collect();
        assert!(inks.len() >= 5, "{inks:?}");
    }

    #[test]
    fn text_can_be_read_on_all_of_them() {
        let light = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        let luminance =
            |c: Rgb| 0.2126 * light(c.0) + 0.7152 * light(c.1) + 0.0722 * light(c.2) + 0.05;
        let contrast = |a: Rgb, b: Rgb| {
            let (a, b) = (luminance(a), luminance(b));
            a.max(b) / a.min(b)
        };
        for theme in [Theme::Dark, Theme::Light] {
            for n in 0..24 {
                let colour = theme.ink(Ink::Named(n));
                assert!(contrast(colour, theme.on(colour)) >= 4.0, "{theme:?} {n}");
            }
            for ground in [theme.page(), theme.lane()] {
                assert!(contrast(theme.text(), ground) > 10.0);
                assert!(contrast(theme.dim(), ground) > 4.0, "{theme:?}");
            }
        }
    }
}

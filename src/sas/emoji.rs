//! The 64 emoji that the Matrix specification chose for comparing: easy to tell apart, and to name.

use core::fmt;

/// One of 64 emoji. `Display` writes the symbol and its English name.
///
/// The numbers are those of the Matrix specification, whose translations of the names can be used.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Emoji {
    number: u8,
    symbol: &'static str,
    name: &'static str,
}

impl Emoji {
    /// By the lowest six bits.
    pub(super) fn of(bits: u64) -> Self {
        let [.., byte] = bits.to_be_bytes();
        let number = byte & 0x3f;
        let (symbol, name) = TABLE.get(usize::from(number)).copied().unwrap_or(TABLE[0]);
        Self { number, symbol, name }
    }

    /// The number in the table, 0 to 63.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The emoji itself.
    #[must_use]
    pub const fn symbol(&self) -> &'static str {
        self.symbol
    }

    /// What it is called in English. Show it below: not every font has every emoji, and people say
    /// the same words.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Emoji {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.symbol, self.name)
    }
}

/// Shows nothing: seven of them are what is compared.
impl fmt::Debug for Emoji {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emoji")
    }
}

const TABLE: [(&str, &str); 64] = [
    ("🐶", "Dog"),
    ("🐱", "Cat"),
    ("🦁", "Lion"),
    ("🐎", "Horse"),
    ("🦄", "Unicorn"),
    ("🐷", "Pig"),
    ("🐘", "Elephant"),
    ("🐰", "Rabbit"),
    ("🐼", "Panda"),
    ("🐓", "Rooster"),
    ("🐧", "Penguin"),
    ("🐢", "Turtle"),
    ("🐟", "Fish"),
    ("🐙", "Octopus"),
    ("🦋", "Butterfly"),
    ("🌷", "Flower"),
    ("🌳", "Tree"),
    ("🌵", "Cactus"),
    ("🍄", "Mushroom"),
    ("🌏", "Globe"),
    ("🌙", "Moon"),
    ("☁️", "Cloud"),
    ("🔥", "Fire"),
    ("🍌", "Banana"),
    ("🍎", "Apple"),
    ("🍓", "Strawberry"),
    ("🌽", "Corn"),
    ("🍕", "Pizza"),
    ("🎂", "Cake"),
    ("❤️", "Heart"),
    ("😀", "Smiley"),
    ("🤖", "Robot"),
    ("🎩", "Hat"),
    ("👓", "Glasses"),
    ("🔧", "Spanner"),
    ("🎅", "Santa"),
    ("👍", "Thumbs Up"),
    ("☂️", "Umbrella"),
    ("⌛", "Hourglass"),
    ("⏰", "Clock"),
    ("🎁", "Gift"),
    ("💡", "Light Bulb"),
    ("📕", "Book"),
    ("✏️", "Pencil"),
    ("📎", "Paperclip"),
    ("✂️", "Scissors"),
    ("🔒", "Lock"),
    ("🔑", "Key"),
    ("🔨", "Hammer"),
    ("☎️", "Telephone"),
    ("🏁", "Flag"),
    ("🚂", "Train"),
    ("🚲", "Bicycle"),
    ("✈️", "Aeroplane"),
    ("🚀", "Rocket"),
    ("🏆", "Trophy"),
    ("⚽", "Ball"),
    ("🎸", "Guitar"),
    ("🎺", "Trumpet"),
    ("🔔", "Bell"),
    ("⚓", "Anchor"),
    ("🎧", "Headphones"),
    ("📁", "Folder"),
    ("📌", "Pin"),
];

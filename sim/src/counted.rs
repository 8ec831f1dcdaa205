//! Enumerations of what reports count.

/// An enumeration of what is counted, each with its name in reports.
macro_rules! counted {
    ($(#[$doc:meta])* pub enum $Counted:ident { $($(#[$one_doc:meta])* $One:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $Counted {
            $($(#[$one_doc])* $One,)*
        }

        impl $Counted {
            /// Every one, in the order of their declaration.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$One),*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$One => $name,)*
                }
            }
        }
    };
}
pub(crate) use counted;

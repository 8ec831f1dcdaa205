//! The page of a diagram: one file, with its style, its script and its data.

use super::diagram::Diagram;
use std::fmt::Write as _;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// The parts of the script, each of which uses those before it.
const SCRIPT: [&str; 6] = [
    include_str!("page/model.js"),
    include_str!("page/view.js"),
    include_str!("page/lanes.js"),
    include_str!("page/panels.js"),
    include_str!("page/controls.js"),
    include_str!("page/main.js"),
];

impl Diagram {
    /// A page that shows the diagram. It needs no other file and no network.
    pub fn to_html(&self) -> String {
        let data = serde_json::to_string(self).expect("a diagram is plain data");
        let mut page = String::with_capacity(data.len() + (64 << 10));
        let mut rest = PAGE;
        // The text that is put in is not looked at again: what looks like a place in it is none.
        while let Some((before, after)) = rest.split_once("{{") {
            let (place, after) = after.split_once("}}").expect("a place in the page ends");
            page += before;
            match place {
                "title" => escape_text(&self.title, &mut page),
                "style" => page += STYLE,
                "data" => escape_json(&data, &mut page),
                "script" => SCRIPT.iter().for_each(|part| page += part),
                place => unreachable!("the page has no place {place}"),
            }
            rest = after;
        }
        page + rest
    }
}

/// JSON that does not end the script element that it stands in, whatever it holds: `<` stands only within its
/// strings.
fn escape_json(json: &str, page: &mut String) {
    for (position, part) in json.split('<').enumerate() {
        *page += if position > 0 { "\\u003c" } else { "" };
        *page += part;
    }
}

fn escape_text(text: &str, page: &mut String) {
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '"' => {
                let _ = write!(page, "&#{};", u32::from(letter));
            }
            letter => page.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::diagram::{Event, Kind};

    #[test]
    fn what_a_payload_holds_does_not_break_out() {
        let mut diagram = Diagram { title: "<b>&{{script}}".to_owned(), ..Diagram::default() };
        let what = "put k=</script><script>alert(1)</script><!--{{data}}".to_owned();
        diagram.events.push(Event::new(1, Kind::Client, what.clone()));
        let page = diagram.to_html();
        assert_eq!(page.matches("</script>").count(), 2, "that of the data, and that of the script");
        assert!(page.contains("<title>&#60;b&#62;&#38;{{script}}"), "{}", &page[..400]);
        let (_, data) = page.split_once("type=\"application/json\">").expect("there is data");
        let (data, _) = data.split_once("</script>").expect("it ends");
        let read: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
        assert_eq!(read["events"][0]["what"], what);
    }

    #[test]
    fn nothing_of_the_page_is_fetched() {
        let page = Diagram::default().to_html();
        assert!(page.contains("default-src 'none'"));
        for outside in ["http:", "https:", "src=", "@import", "url(", "fetch(", "XMLHttp", "import(", "eval("]
        {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}

//! Goal: what is drawn is where it was, when it was, in its colour. Method: pictures whose
//! contents are known, looked at pixel by pixel; places by `plan`, as everybody gets them.

use std::sync::Arc;

use super::*;

const S: u64 = 1_000_000_000;
const SIZE: (u32, u32) = (1000, 600);

fn key(name: &str) -> Key {
    Key { ink: Ink::of(name), name: name.into() }
}

/// A second of two CPUs and a density; contents by the number of columns.
fn picture(size: (u32, u32)) -> (Picture, Plan) {
    let states: Arc<[State]> = [("", Ink::Unknown), ("", Ink::Idle), ("", Ink::Others)]
        .into_iter()
        .chain([("alpha", Ink::of("alpha")), ("beta", Ink::of("beta"))])
        .map(|(name, ink)| State { name: name.into(), ink })
        .collect();
    let lane = |name: &str, group, content| Lane {
        name: name.into(),
        detail: "12 %".into(),
        group,
        height: 150,
        content,
    };
    let mut picture = Picture {
        title: "a trace".into(),
        facts: vec!["1 event".into()],
        from: 1_700_000_000 * S,
        to: 1_700_000_001 * S,
        groups: ["CPUs", "Events"].map(|n| Group { name: n.into(), note: String::new() }).into(),
        lanes: vec![
            lane("CPU 0", 0, Content::States(Vec::new(), Arc::clone(&states))),
            lane("CPU 1", 0, Content::States(Vec::new(), Arc::clone(&states))),
            lane("all events", 1, Content::Density(Vec::new(), Ink::Count)),
        ],
        arrows: Vec::new(),
        lost: Vec::new(),
        legend: vec![key("alpha"), key("beta")],
    };
    let plan = plan(&picture, size).expect("a size");
    let n = plan.columns;
    // alpha for the first half, then nothing, then beta for the last quarter.
    let cells = (0..n).map(|i| match i {
        i if i < n / 2 => Cell::all(3),
        i if i < n * 3 / 4 => Cell::all(1),
        _ => Cell::all(4),
    });
    // A quarter of each column, and nothing known in its last half.
    let quarter = (0..n).map(|i| {
        let mut cell = Cell::default();
        if i < n / 2 {
            cell.shares[0] = Share { state: 3, part: Cell::WHOLE / 4 };
            cell.shares[1] = Share { state: 1, part: Cell::WHOLE / 4 * 3 };
        }
        cell
    });
    let counts = (0..n).map(|i| if i == n / 2 { 100 } else { u32::from(i < n / 4) * 50 });
    picture.lanes[0].content = Content::States(cells.collect(), Arc::clone(&states));
    picture.lanes[1].content = Content::States(quarter.collect(), states);
    picture.lanes[2].content = Content::Density(counts.collect(), Ink::Count);
    (picture, plan)
}

/// A pixel of a lane: in thousandths of its width and of its height. No tick is there.
fn at(image: &Image, plan: &Plan, lane: usize, (x, y): (u32, u32)) -> Rgb {
    let (top, height) = plan.lanes[lane];
    image.pixel(plan.left + plan.columns * x / 1000, top + height * y / 1000)
}

#[test]
fn a_lane_has_the_colour_of_what_ran_at_that_time() {
    for theme in [Theme::Dark, Theme::Light] {
        let (picture, plan) = picture(SIZE);
        let image = draw(&picture, SIZE, theme).expect("drawn");
        assert_eq!((image.width(), image.height()), SIZE);
        let named = |name| theme.ink(Ink::of(name));
        assert_ne!(named("alpha"), named("beta"));
        for (lane, place, colour) in [
            (0, (3, 500), named("alpha")),
            (0, (487, 100), named("alpha")),
            (0, (513, 500), theme.lane()),
            (0, (737, 500), theme.lane()),
            (0, (763, 900), named("beta")),
            (0, (993, 500), named("beta")),
            (1, (237, 900), named("alpha")),
            (1, (237, 500), theme.lane()),
            (1, (637, 500), theme.page()),
            (2, (137, 250), theme.lane()),
            (2, (637, 900), theme.lane()),
        ] {
            assert_eq!(at(&image, &plan, lane, place), colour, "{theme:?}: {lane}, {place:?}");
        }
        // Bars: half of the peak is half as high.
        let (top, height) = plan.lanes[2];
        let column = |x: u32| {
            let drawn = |y: &u32| image.pixel(plan.left + x, top + y) != theme.lane();
            (0..height).filter(drawn).count() as u32
        };
        assert_eq!(column(plan.columns / 8), height / 2);
        assert_eq!(column(plan.columns / 2), height);
    }
}

#[test]
fn ticks_stand_at_their_times_and_have_words() {
    let (picture, plan) = picture(SIZE);
    let image = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let (dim, grid) = (Theme::Dark.dim(), Theme::Dark.grid());
    // Just above the first heading, which is a line and a half: there end their marks.
    let y = plan.lanes[0].0 - 24 - 1;
    let marks: Vec<u32> =
        (0..plan.columns).filter(|x| image.pixel(plan.left + x, y) == dim).collect();
    // 1 s in steps of 0.1 s or 0.2 s: at each the column of that time, and at the end the last.
    let steps = marks.len() as u32 - 1;
    assert!(steps == 10 || steps == 5, "{marks:?}");
    for (n, x) in (0..).zip(&marks) {
        assert_eq!(*x, (plan.columns * n / steps).min(plan.columns - 1), "{marks:?}");
    }
    // Lines go on through the lanes.
    let (top, _) = plan.lanes[2];
    let line = image.pixel(plan.left + marks[4], top);
    assert!(line != Theme::Dark.lane() && line != grid, "{line:?}");
}

/// Whether some text stands somewhere, in this colour, on a ground of one colour.
fn has(image: &Image, words: &str, colour: Rgb, ground: Rgb, size: (u32, u32)) -> bool {
    let font = text::Font::for_size(size);
    let (w, h) = (font.width(words), font.line());
    let mut sample = Image::new(w, h, ground);
    font.write(&mut sample, (0, 0), words, colour);
    let same = |x: u32, y: u32| {
        (0..h).all(|dy| (0..w).all(|dx| image.pixel(x + dx, y + dy) == sample.pixel(dx, dy)))
    };
    (0..image.height() - h).any(|y| (0..image.width() - w).any(|x| same(x, y)))
}

#[test]
fn names_are_whole_and_times_have_units() {
    // The second one is in a larger font.
    let (dark, light) = (["0.2 s", "0.4 s"], ["0.20 s", "0.45 s"]);
    for (theme, size, times) in [(Theme::Dark, SIZE, dark), (Theme::Light, (2500, 1300), light)] {
        let (picture, _) = picture(size);
        let image = draw(&picture, size, theme).expect("drawn");
        let (page, text) = (theme.page(), theme.text());
        let names = ["CPU 0", "CPU 1", "all events", "alpha", "beta"];
        for words in names.into_iter().chain(times) {
            assert!(has(&image, words, text, page, size), "{words} at {size:?}");
        }
        assert!(has(&image, "2023-11-14 22:13:20.000 UTC  ·  1 s", theme.dim(), page, size));
        let box_ = theme.ink(Ink::of("beta"));
        assert!(has(&image, "beta", theme.on(box_), box_, size), "in its box");
        assert!(!has(&image, "gamma", text, page, size));
    }
}

#[test]
fn long_names_widen_the_margin_and_only_the_longest_are_shortened() {
    let (mut picture, before) = picture(SIZE);
    picture.lanes[0].name = "exceptions:page_fault_user".into();
    let after = plan(&picture, SIZE).expect("a size");
    assert!(after.columns < before.columns);
    let image = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let (text, page) = (Theme::Dark.text(), Theme::Dark.page());
    assert!(has(&image, "exceptions:page_fault_user", text, page, SIZE));
    picture.lanes[0].name = "n".repeat(100);
    let image = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let left = plan(&picture, SIZE).expect("a size").left;
    assert!(left <= SIZE.0 / 3 + 10, "{left}");
    assert!(has(&image, "nnnnnnnnnnnnn…", text, page, SIZE));
}

#[test]
fn what_is_missing_is_hatched_where_it_is_missing() {
    let (mut picture, plan) = picture(SIZE);
    let at_ms = |ms: u64| picture.from + ms * 1_000_000;
    let gaps = [(0, 510, 740, "5 events lost"), (1, 600, 600, "never fits")];
    picture.lost = gaps
        .into_iter()
        .map(|(lane, a, b, text)| Gap { lane, from: at_ms(a), to: at_ms(b), text: text.into() })
        .collect();
    let image = draw(&picture, SIZE, Theme::Light).expect("drawn");
    let red = |lane: usize, ms: u32| {
        let (top, height) = plan.lanes[lane];
        let x = plan.left + plan.columns * ms / 1000;
        // Three pixels wide, so that stripes and what is between them are seen.
        (0..3 * height).any(|n| {
            let Rgb(r, g, _) = image.pixel(x + n % 3, top + n / 3);
            i32::from(r) - i32::from(g) > 120
        })
    };
    assert!(red(0, 520) && red(0, 730) && !red(0, 490) && !red(0, 760));
    assert!(red(1, 600) && !red(1, 580) && !red(1, 620), "seen, however short it was");
}

#[test]
fn an_arrow_goes_from_lane_to_lane_at_its_time() {
    let (mut picture, plan) = picture(SIZE);
    let before = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    picture.arrows.push(Arrow { time: picture.from + S / 8, from: 0, to: 1 });
    let image = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let changed: Vec<(u32, u32)> = (0..SIZE.0 * SIZE.1)
        .map(|n| (n % SIZE.0, n / SIZE.0))
        .filter(|(x, y)| image.pixel(*x, *y) != before.pixel(*x, *y))
        .collect();
    let x = plan.left + plan.columns / 8;
    let (from, to) = (plan.lanes[0], plan.lanes[1]);
    assert!(changed.len() > 15);
    for (cx, cy) in changed {
        assert!(cx.abs_diff(x) <= 3 && cy >= from.0 && cy < to.0 + to.1, "{cx} {cy}");
    }
}

#[test]
fn sizes_are_refused_that_are_none_and_small_ones_are_drawn() {
    for (size, is) in [
        ((0, 0), false),
        ((319, 200), false),
        ((320, 199), false),
        ((320, 200), true),
        ((8193, 200), false),
        ((8192, 200), true),
    ] {
        let (picture, _) = picture(SIZE);
        match draw(&picture, size, Theme::Dark) {
            Ok(image) => assert!(is && (image.width(), image.height()) == size),
            Err(e) => {
                assert!(!is);
                let words =
                    format!("no picture is {}x{}: its size is from 320x200 to", size.0, size.1);
                assert!(e.to_string().starts_with(&words), "{e}");
            }
        }
    }
    // Nothing in it, and times that are none: still a picture.
    draw(&Picture::default(), SMALLEST, Theme::Light).expect("drawn");
}

#[test]
fn lanes_without_room_are_counted() {
    let (mut picture, _) = picture(SIZE);
    let one = picture.lanes[2].clone();
    picture.lanes.extend((0..100).map(|_| one.clone()));
    let fits = plan(&picture, SIZE).expect("a size").lanes;
    assert!((8..25).contains(&fits.len()), "{}", fits.len());
    let (y, h) = fits[fits.len() - 1];
    assert!(y + h < SIZE.1);
    let image = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let words = format!("{} more lanes have no room in this size", 103 - fits.len());
    assert!(has(&image, &words, Theme::Dark.dim(), Theme::Dark.page(), SIZE), "{words}");
}

#[test]
fn values_are_between_their_least_and_largest() {
    let (mut picture, _) = picture(SIZE);
    picture.lanes[2].height = 300;
    let n = plan(&picture, SIZE).expect("a size").columns;
    let range = |mean: f64| Some(Range { min: mean - 10.0, mean, max: mean + 10.0 });
    let values = (0..n).map(|i| if i < n / 2 { range(10.0) } else { range(110.0) }).collect();
    picture.lanes[2].content = Content::Values(values, Ink::Value);
    let plan = plan(&picture, SIZE).expect("a size");
    let theme = Theme::Dark;
    let image = draw(&picture, SIZE, theme).expect("drawn");
    let (top, height) = plan.lanes[2];
    let mean =
        |x: u32| (0..height).find(|y| image.pixel(plan.left + x, top + y) == theme.ink(Ink::Value));
    // 0 to 120 from below: 10 is a twelfth of the height, 110 eleven.
    let near = |y: Option<u32>, part: u32| y.is_some_and(|y| y.abs_diff(height * part / 12) <= 1);
    assert!(near(mean(n / 8), 11), "{:?} of {height}", mean(n / 8));
    assert!(near(mean(n * 7 / 8), 1), "{:?} of {height}", mean(n * 7 / 8));
    assert!(has(&image, "120", theme.dim(), theme.page(), SIZE));
}

#[test]
fn a_png_is_whole_the_same_each_time_and_replaced_in_one_step() {
    let (picture, _) = picture(SIZE);
    let image = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let again = draw(&picture, SIZE, Theme::Dark).expect("drawn");
    let encoded = |image: &Image, effort| {
        let mut bytes = Vec::new();
        image.encode(&mut bytes, effort).expect("encoded");
        bytes
    };
    for effort in [Effort::Small, Effort::Fast] {
        let one = encoded(&image, effort);
        assert!(one == encoded(&again, effort), "the same bytes");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&one)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("whole");
        assert_eq!((info.width, info.height, info.color_type), (1000, 600, png::ColorType::Rgb));
        let mut both = pixels.chunks_exact(3).zip(image.rgba().chunks_exact(4));
        assert!(both.all(|(a, b)| a == &b[..3]), "every pixel");
    }
    let one = encoded(&image, Effort::Small);
    assert!(one.len() < encoded(&image, Effort::Fast).len());

    let dir = std::env::temp_dir().join(format!("rbpipe-picture-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("made");
    let path = dir.join("p.png");
    std::fs::write(&path, "before").expect("written");
    let before = std::fs::File::open(&path).expect("opened");
    image.write_png(&path, Effort::Small).expect("written");
    assert!(std::fs::read(&path).expect("read") == one);
    // Who had it open sees what it was: nothing was written over.
    let mut old = String::new();
    std::io::Read::read_to_string(&mut &before, &mut old).expect("read");
    assert_eq!(old, "before");
    assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 1, "nothing is left beside it");
    assert!(image.write_png(&dir, Effort::Small).is_err(), "a directory");
    assert!(image.write_png(&dir.join("none/p.png"), Effort::Small).is_err());
    std::fs::remove_dir_all(&dir).expect("removed");
}

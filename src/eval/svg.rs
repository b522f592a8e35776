//! Reliability diagrams as SVG.

use std::fmt::Write;

use super::statistics::{Reliability, ReliabilityBin};

/// Side of the square in which probability and share run from 0 to 1.
const SIDE: f64 = 320.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
/// Height of the strip below that shows how many predictions there are.
const STRIP: f64 = 56.0;
const GAP: f64 = 14.0;
const WIDTH: f64 = LEFT + SIDE + 24.0;
const HEIGHT: f64 = TOP + SIDE + GAP + STRIP + 52.0;

const BAR: &str = "#2f6f9f";
const TEXT: &str = "#222";
const LINE: &str = "#999";

/// A reliability diagram (DeGroot and Fienberg 1983): by bin, the share of correct predictions over their mean probability, and below
/// it how many they are. On the diagonal, probabilities are what they say; lines are 95 % intervals of the shares.
pub fn reliability_diagram(title: &str, reliability: &Reliability) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{TEXT}">
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#
    );
    let count: usize = reliability.bins.iter().map(|bin| bin.count).sum();
    let figure =
        |name: &str, figure: Option<f64>| figure.map_or(String::new(), |figure| format!(", {name} {figure:.3}"));
    let ece = figure("ECE", reliability.ece) + &figure("floor", reliability.ece_floor);
    text(&mut out, LEFT, 20.0, "start", &format!(r#"<tspan font-weight="bold">{}</tspan>"#, escaped(title)));
    text(&mut out, LEFT, 36.0, "start", &format!("{count} predictions{ece}"));
    axes(&mut out);
    reliability.bins.iter().for_each(|bin| bar(&mut out, bin));
    line(&mut out, [x(0.0), y(0.0)], [x(1.0), y(1.0)], &format!(r#"stroke="{TEXT}" stroke-dasharray="5 4""#));
    reliability.bins.iter().for_each(|bin| point(&mut out, bin));
    let most = reliability.bins.iter().map(|bin| bin.count).max().unwrap_or(1) as f64;
    for bin in &reliability.bins {
        let height = STRIP * bin.count as f64 / most;
        rect(
            &mut out,
            x(bin.from) + 1.0,
            TOP + SIDE + GAP + STRIP - height,
            x(bin.to) - x(bin.from) - 2.0,
            height,
            0.45,
        );
    }
    text(&mut out, LEFT - 8.0, TOP + SIDE + GAP + 10.0, "end", &format!("{most}"));
    text(&mut out, LEFT - 8.0, TOP + SIDE + GAP + STRIP, "end", "0");
    text(&mut out, LEFT + SIDE / 2.0, HEIGHT - 12.0, "middle", "probability");
    let (across, up) = (18.0, TOP + SIDE / 2.0);
    let _ = writeln!(
        out,
        r#"<text x="{across}" y="{up}" text-anchor="middle" transform="rotate(-90 {across} {up})">share correct</text>"#
    );
    out.push_str("</svg>\n");
    out
}

fn x(probability: f64) -> f64 {
    LEFT + probability * SIDE
}

fn y(share: f64) -> f64 {
    TOP + (1.0 - share) * SIDE
}

fn axes(out: &mut String) {
    let bottom = TOP + SIDE + GAP + STRIP;
    for step in 0..=5 {
        let at = f64::from(step) / 5.0;
        let label = format!("{at:.1}");
        line(out, [LEFT, y(at)], [LEFT + SIDE, y(at)], r##"stroke="#e4e4e4""##);
        text(out, LEFT - 8.0, y(at) + 4.0, "end", &label);
        text(out, x(at), bottom + 16.0, "middle", &label);
    }
    let axis = format!(r#"stroke="{LINE}""#);
    line(out, [LEFT, TOP], [LEFT, TOP + SIDE], &axis);
    line(out, [LEFT, TOP + SIDE], [LEFT + SIDE, TOP + SIDE], &axis);
    line(out, [LEFT, bottom], [LEFT + SIDE, bottom], &axis);
}

/// A bin's bar up to its share of correct predictions.
fn bar(out: &mut String, bin: &ReliabilityBin) {
    let top = y(bin.accuracy);
    rect(out, x(bin.from) + 1.0, top, x(bin.to) - x(bin.from) - 2.0, TOP + SIDE - top, 0.6);
}

/// A point at a bin's mean probability and share of correct predictions, on the 95 % interval of that share (Wilson 1927).
fn point(out: &mut String, bin: &ReliabilityBin) {
    let (count, z) = (bin.count as f64, 1.96);
    let middle = (bin.accuracy + z * z / (2.0 * count)) / (1.0 + z * z / count);
    let variance = bin.accuracy * (1.0 - bin.accuracy) / count + z * z / (4.0 * count * count);
    let reach = z * variance.sqrt() / (1.0 + z * z / count);
    let (at, top) = (x(bin.probability), y(bin.accuracy));
    line(out, [at, y(middle - reach)], [at, y(middle + reach)], &format!(r#"stroke="{TEXT}""#));
    let _ = writeln!(
        out,
        r#"<circle cx="{:.1}" cy="{top:.1}" r="3" fill="white" stroke="{TEXT}"><title>{} predictions: probability {:.3}, correct {:.3}</title></circle>"#,
        at, bin.count, bin.probability, bin.accuracy
    );
}

fn rect(out: &mut String, x: f64, y: f64, width: f64, height: f64, opacity: f64) {
    let _ = writeln!(
        out,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{BAR}" fill-opacity="{opacity}"/>"#
    );
}

fn line(out: &mut String, from: [f64; 2], to: [f64; 2], style: &str) {
    let _ =
        writeln!(out, r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" {style}/>"#, from[0], from[1], to[0], to[1]);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{content}</text>"#);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

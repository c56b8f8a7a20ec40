import Foundation
import JobStore

/// What ended, span by span: a bar chart of how many, by how they ended, and a line chart of how long they took.
struct ActivityChart: Sendable {
    /// One span of the chart.
    struct Bar: Sendable {
        var at: Date
        var succeeded = 0
        var failed = 0
        /// Cancelled, declined, skipped.
        var other = 0
        var durations = DurationCounts()

        var total: Int { succeeded + failed + other }
    }

    var bars: [Bar]
    /// Seconds that each bar stands for.
    var length: Int

    /// - Parameters:
    ///   - spans: those outside of the chart are left out.
    ///   - start: where the first bar begins.
    init(_ spans: [EndedSpan], from start: Date, count: Int, length: Int) {
        self.length = length
        bars = (0..<count).map { Bar(at: start.addingTimeInterval(Double($0 * length))) }
        for span in spans {
            let index = Int((span.at.timeIntervalSince(start) / Double(length)).rounded(.down))
            guard bars.indices.contains(index) else { continue }
            let number = span.durations.count
            switch span.state {
            case "succeeded": bars[index].succeeded += number
            case "failed", "dead": bars[index].failed += number
            default: bars[index].other += number
            }
            if ["succeeded", "failed", "dead"].contains(span.state) { bars[index].durations.add(span.durations) }
        }
    }

    /// How many, as stacked bars: failures are hatched, so that colour is not the only sign.
    func counts(_ what: String) -> String {
        let most = Self.ceiling(Double(bars.map(\.total).max() ?? 0))
        let width = 100 / Double(max(1, bars.count))
        var parts = ""
        for (index, bar) in bars.enumerated() where bar.total > 0 {
            var below = 0.0
            for (kind, count) in [("succeeded", bar.succeeded), ("failed", bar.failed), ("cancelled", bar.other)] where count > 0 {
                let height = Double(count) / most * 100
                let frame =
                    "x=\"\(Markup.percent(Double(index) * width + width * 0.1))\" y=\"\(Markup.percent(100 - below - height))\" "
                    + "width=\"\(Markup.percent(width * 0.8))\" height=\"\(Markup.percent(height))\""
                parts += "<rect class=\"s-\(kind)\" \(frame)/>"
                if kind == "failed" { parts += "<rect class=\"hatch\" fill=\"url(#hatch)\" \(frame)/>" }
                below += height
            }
        }
        let sum = bars.reduce(0) { $0 + $1.total }
        let failed = bars.reduce(0) { $0 + $1.failed }
        let words =
            "\(Display.count(sum, what)) ended, \(Display.number(failed)) of them failed; at most \(Display.number(bars.map(\.total).max() ?? 0)) in \(Display.duration(Double(length)))."
        return Self.frame(
            "\(what.capitalized)s that ended", words,
            "<defs><pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
                + "<path d=\"M0 0V5\"/></pattern></defs>" + parts, ceiling: Display.number(Int(most)), half: Self.half(most))
    }

    /// How long, as lines: the median in full, the 95th percentile dashed.
    var durations: String {
        let middle = bars.map { $0.durations.percentile(0.5) }
        let high = bars.map { $0.durations.percentile(0.95) }
        let most = Self.ceiling(max(high.compactMap(\.self).max() ?? 0, 0.1))
        let overall = bars.reduce(into: DurationCounts()) { $0.add($1.durations) }
        var words = "Nothing that ended was timed."
        if let half = overall.percentile(0.5), let most = overall.percentile(0.95) {
            words = "Median \(Display.duration(half)), 95th percentile \(Display.duration(most))."
        }
        let lines = """
            <svg viewBox="0 0 1000 100" preserveAspectRatio="none" width="100%" height="100%">\
            <path class="p95" d="\(path(high, most))"/><path class="p50" d="\(path(middle, most))"/></svg>
            """
        return Self.frame("How long they took", words, lines, ceiling: Display.duration(most), half: Display.duration(most / 2))
    }

    private func path(_ values: [Double?], _ most: Double) -> String {
        var path = ""
        var isDrawing = false
        let width = 1000 / Double(max(1, values.count))
        for (index, value) in values.enumerated() {
            guard let value else {
                isDrawing = false
                continue
            }
            let y = Int((100 - value / most * 100).rounded())
            let x = Int((Double(index) * width + width / 2).rounded())
            // One alone is a short stroke: a point would not be seen.
            let isAlone = !isDrawing && (index + 1 == values.count || values[index + 1] == nil)
            path += isAlone ? "M\(x - Int(width / 3)) \(y)H\(x + Int(width / 3))" : "\(isDrawing ? "L" : "M")\(x) \(y)"
            isDrawing = true
        }
        return path
    }

    private static func frame(_ title: String, _ words: String, _ content: String, ceiling: String, half: String) -> String {
        """
        <svg class="chart" role="img"><title>\(HTMLText.escape(title))</title><desc>\(HTMLText.escape(words))</desc>\
        <line class="grid" x2="100%" y1="0.5" y2="0.5"/><line class="grid" x2="100%" y1="50%" y2="50%"/>\
        <line class="base" x2="100%" y1="100%" y2="100%"/>\(content)\
        <text x="-6" y="4">\(HTMLText.escape(ceiling))</text><text x="-6" y="50%" dy="4">\(HTMLText.escape(half))</text>\
        <text x="-6" y="100%">0</text></svg>
        """
    }

    private static func half(_ most: Double) -> String { most < 2 ? "" : Display.number(Int(most / 2)) }

    /// The next round number: 1, 2, 5, 10, 20, 50 …; even where there are halves to show.
    static func ceiling(_ value: Double) -> Double {
        guard value > 0 else { return 1 }
        let power = pow(10, log10(value).rounded(.down))
        return [1.0, 2, 4, 6, 10].map { $0 * power }.first { $0 >= value * 0.999 } ?? value
    }
}

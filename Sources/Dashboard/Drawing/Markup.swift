import Foundation
import JobStore
import Jobs

/// Small pieces of HTML that templates take as they are.
enum Markup {
    private static let machineTime = Date.ISO8601FormatStyle(includingFractionalSeconds: true)

    /// The script turns it into the reader's time zone, and into "3 min ago" where `isRelative`.
    static func time(_ date: Date, isRelative: Bool = false) -> String {
        let attribute = isRelative ? " data-relative" : ""
        return "<time datetime=\"\(date.formatted(machineTime))\"\(attribute)>\(Display.time(date))</time>"
    }

    static func time(_ date: Date?, isRelative: Bool = false) -> String {
        date.map { time($0, isRelative: isRelative) } ?? "<span class=\"none\">–</span>"
    }

    /// From what is done to what is still to come.
    private static let order: [JobState] = [
        .succeeded, .running, .dispatched, .ready, .retrying, .failed, .dead, .cancelled, .skipped, .waiting,
    ]

    /// One bar of all jobs of a run, by state.
    static func bar(_ counts: [JobState: Int]) -> String {
        let total = counts.values.reduce(0, +)
        guard total > 0 else { return "" }
        var x = 0.0
        var parts = ""
        for state in order {
            guard let count = counts[state], count > 0 else { continue }
            let width = Double(count) / Double(total) * 100
            parts += "<rect class=\"s-\(state.rawValue)\" x=\"\(percent(x))\" width=\"\(percent(width))\" height=\"8\"/>"
            x += width
        }
        let words = JobState.allCases.compactMap { state in counts[state].map { "\($0) \(state.rawValue)" } }.joined(separator: ", ")
        return "<svg class=\"bar\" role=\"img\" aria-label=\"\(words)\"><title>\(words)</title>\(parts)</svg>"
    }

    /// One bar of several parts of a whole; what is missing to the whole stays empty.
    ///
    /// - Parameter parts: the state that gives a part its colour, and its size.
    static func bar(_ parts: [(like: String, count: Int)], of total: Int, _ words: String) -> String {
        var x = 0.0
        var rects = ""
        for part in parts where part.count > 0 && total > 0 {
            let width = Double(part.count) / Double(total) * 100
            rects += "<rect class=\"s-\(part.like)\" x=\"\(percent(x))\" width=\"\(percent(width))\" height=\"8\"/>"
            x += width
        }
        let label = HTMLText.escape(words)
        return "<svg class=\"bar\" role=\"img\" aria-label=\"\(label)\"><title>\(label)</title>\(rects)</svg>"
    }

    /// A share of something, 0...1.
    static func meter(_ share: Double, _ words: String, like name: String = "running") -> String {
        let share = min(1, max(0, share))
        return """
            <svg class="bar meter" role="img" aria-label="\(HTMLText.escape(words))"><title>\(HTMLText.escape(words))</title>\
            <rect class="s-\(name)" width="\(percent(share * 100))" height="8"/></svg>
            """
    }

    static func percent(_ value: Double) -> String { "\(Double((value * 100).rounded()) / 100)%" }
}

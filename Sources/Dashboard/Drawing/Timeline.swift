import Foundation
import JobStore
import Jobs

/// When each job of a run waited and worked: one bar a job, all on one scale.
struct Timeline: Sendable {
    let start: Date
    let length: Double

    init(_ detail: LedgerRunDetail, at now: Date) {
        start = detail.run.createdAt
        let last = detail.attempts.compactMap(\.endedAt).max() ?? start
        let end = detail.run.finishedAt ?? now
        length = max(0.5, max(end, last).timeIntervalSince(start))
    }

    /// Marks at round times, so far apart that their words do not touch.
    var scale: String {
        let marks = Self.ticks(length).map { seconds in
            let place = Markup.percent(seconds / length * 100)
            return "<line x1=\"\(place)\" x2=\"\(place)\" y2=\"16\"/><text x=\"\(place)\" dx=\"3\" y=\"11\">\(Self.words(seconds))</text>"
        }
        return "<svg class=\"scale\" aria-hidden=\"true\">\(marks.joined())</svg>"
    }

    /// Seconds from the beginning, at most four, the last one with room for its words.
    static func ticks(_ length: Double) -> [Double] {
        let step = steps.first { length / $0 < 4 } ?? (length / 3 / 86400).rounded(.up) * 86400
        return stride(from: 0, to: length * 0.87, by: step).map(\.self)
    }

    private static let steps: [Double] = [
        0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    ]

    private static func words(_ seconds: Double) -> String {
        switch seconds {
        case 0: "0"
        case ..<1: "\(Int((seconds * 1000).rounded())) ms"
        case ..<60: "\(seconds == seconds.rounded() ? String(Int(seconds)) : String((seconds * 10).rounded() / 10)) s"
        case ..<3600: seconds.truncatingRemainder(dividingBy: 60) == 0 ? "\(Int(seconds / 60)) min" : Display.duration(seconds)
        default: seconds.truncatingRemainder(dividingBy: 3600) == 0 ? "\(Int(seconds / 3600)) h" : Display.duration(seconds)
        }
    }

    func bar(_ job: LedgerJob, _ attempts: [LedgerAttempt], at now: Date) -> String {
        var parts: [String] = []
        if let queued = job.queuedAt {
            let began = attempts.last { $0.attempt == job.attempt }?.claimedAt ?? job.startedAt ?? job.finishedAt ?? now
            parts.append(rect("wait", queued, began, "waited \(Display.duration(began.timeIntervalSince(queued)))"))
        }
        for attempt in attempts {
            let end = attempt.endedAt ?? now
            let state = Self.state(attempt)
            let words =
                "attempt \(attempt.attempt): \(attempt.outcome ?? "running"), \(Display.duration(end.timeIntervalSince(attempt.claimedAt)))"
            parts.append(rect("s-\(state)", attempt.claimedAt, end, words))
        }
        return parts.isEmpty ? "" : "<svg class=\"timeline\" role=\"img\" aria-label=\"Timeline\">\(parts.joined())</svg>"
    }

    /// Where something begins, 0...1.
    func share(_ moment: Date) -> Double { min(0.996, max(0, moment.timeIntervalSince(start) / length)) }

    /// An attempt with its job's name below its beginning.
    ///
    /// - Parameters:
    ///   - row: 0 for the first row of names; a line leads down to those below. nil for none.
    ///   - place: where the name begins, 0...1.
    func labelled(_ name: String, _ attempt: LedgerAttempt, until end: Date, _ words: String, row: Int?, at place: Double) -> String {
        let left = Markup.percent(share(attempt.claimedAt) * 100)
        let link = "<a href=\"/jobs/\(HTMLText.escape(attempt.jobID))\">"
        let bar = rect("s-\(Self.state(attempt))", attempt.claimedAt, end, words)
        guard let row else { return "\(link)\(bar)</a>" }
        let height = 27 + row * Self.rowHeight
        let lead = row > 0 ? "<line x1=\"\(left)\" x2=\"\(left)\" y1=\"12\" y2=\"\(height - 2)\"/>" : ""
        let text = "<text x=\"\(Markup.percent(place * 100))\" dx=\"3\" y=\"\(height)\">\(HTMLText.escape(name))</text>"
        return "\(link)\(lead)\(bar)\(text)</a>"
    }

    private static let rowHeight = 14

    /// - Parameter rows: how many rows of names it has, 1...6: the style sheet gives it the height.
    func lane(_ bars: String, rows: Int) -> String {
        "<svg class=\"timeline lane rows-\(rows)\" role=\"group\" aria-label=\"Jobs\">\(bars)</svg>"
    }

    /// How an attempt is coloured.
    static func state(_ attempt: LedgerAttempt) -> String {
        switch attempt.outcome {
        case nil: "running"
        case "lost": "dead"
        case "released": "cancelled"
        case let outcome?: outcome
        }
    }

    private func rect(_ name: String, _ from: Date, _ to: Date, _ words: String) -> String {
        let left = min(100, max(0, from.timeIntervalSince(start) / length * 100))
        let right = min(100, max(left, to.timeIntervalSince(start) / length * 100))
        return """
            <rect class="\(name)" x="\(Markup.percent(min(left, 99.6)))" width="\(Markup.percent(max(right - left, 0.4)))" height="12" rx="2">\
            <title>\(HTMLText.escape(words))</title></rect>
            """
    }
}

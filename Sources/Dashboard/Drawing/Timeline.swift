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

    var scale: String {
        let marks = [0.0, 0.25, 0.5, 0.75].map { share in
            """
            <line x1="\(Markup.percent(share * 100))" x2="\(Markup.percent(share * 100))" y2="16"/>\
            <text x="\(Markup.percent(share * 100))" dx="3" y="11">\(share == 0 ? "0" : Display.duration(length * share))</text>
            """
        }
        return "<svg class=\"scale\" aria-hidden=\"true\">\(marks.joined())</svg>"
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

    /// An attempt with its job's name beside its beginning.
    func labelled(_ name: String, _ attempt: LedgerAttempt, until end: Date, _ words: String) -> String {
        let left = min(99.6, max(0, attempt.claimedAt.timeIntervalSince(start) / length * 100))
        // Near the end the name would leave the drawing.
        let place = left > 80 ? "x=\"100%\" text-anchor=\"end\"" : "x=\"\(Markup.percent(left))\" dx=\"4\""
        let text = "<text \(place) y=\"29\">\(HTMLText.escape(name))</text>"
        return
            "<a href=\"/jobs/\(HTMLText.escape(attempt.jobID))\">\(rect("s-\(Self.state(attempt))", attempt.claimedAt, end, words))\(text)</a>"
    }

    func lane(_ bars: String) -> String { "<svg class=\"timeline lane\" role=\"group\" aria-label=\"Jobs\">\(bars)</svg>" }

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

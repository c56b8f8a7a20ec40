import Jobs

/// A state as people see it: word, shape and colour, so that none of them is the only sign.
enum StateMark {
    static func html(_ state: JobState) -> String { html(state.rawValue, like: state.rawValue) }
    static func html(_ state: RunState) -> String { html(state.rawValue, like: state.rawValue) }

    /// - Parameter name: also names the colour, a class of the style sheet.
    static func html(_ word: String, like name: String) -> String {
        "<span class=\"state s-\(name)\">\(icon(name))\(HTMLText.escape(word))</span>"
    }

    static func icon(_ name: String) -> String {
        "<svg class=\"mark\" viewBox=\"0 0 12 12\" aria-hidden=\"true\">\(shape(name))</svg>"
    }

    /// Drawn in a square of 12 by 12 in the current colour.
    static func shape(_ name: String) -> String {
        switch name {
        case "succeeded", "accepted", "ok": line("M2 6.5 4.8 9.3 10 3.4")
        case "failed", "error", "lost": line("M3 3 9 9M9 3 3 9")
        case "dead":
            "<path class=\"fill\" d=\"M3.9 1h4.2L11 3.9v4.2L8.1 11H3.9L1 8.1V3.9z\"/>"
                + "<path class=\"cut\" d=\"M4.2 4.2 7.8 7.8M7.8 4.2 4.2 7.8\"/>"
        case "running", "active": "<path class=\"fill\" d=\"M3 1.8 10.2 6 3 10.2z\"/>"
        case "retrying": line("M9.8 6A3.8 3.8 0 1 1 8.6 3.2M8.8 1v2.6H6.2")
        case "ready": line("M6 2a4 4 0 1 1 0 8 4 4 0 0 1 0-8z") + "<circle class=\"fill\" cx=\"6\" cy=\"6\" r=\"1.7\"/>"
        case "dispatched", "draining": line("M6 2a4 4 0 1 1 0 8 4 4 0 0 1 0-8z") + "<path class=\"fill\" d=\"M6 2a4 4 0 0 1 0 8z\"/>"
        case "cancelled", "stopped": line("M6 2a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM3.2 8.8 8.8 3.2")
        case "skipped", "filtered": line("M2.5 3 5.5 6l-3 3M6.5 3l3 3-3 3")
        case "declined", "paused": line("M2.5 6h7")
        case "warning": line("M6 1.8 11 10.2H1zM6 5v2.4")
        default: line("M6 2a4 4 0 1 1 0 8 4 4 0 0 1 0-8z")
        }
    }

    private static func line(_ path: String) -> String { "<path class=\"line\" d=\"\(path)\"/>" }
}

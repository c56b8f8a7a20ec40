import Foundation
import HTTPTypes
import Jobs
import Pipeline

/// Params that a person or a program wants a job to run with: read and checked. Errors name the key and show no value.
enum ParamsText {
    private static let allowed =
        "a JSON object, at most \(CommandMessage.longestParams) bytes and \(CommandMessage.deepestParams) levels deep"

    /// - Parameter text: what was typed into a form.
    static func read(_ text: String) throws(Problem) -> JSONValue {
        let value: JSONValue
        do {
            value = try JSONValue(json: Data(text.utf8))
        } catch {
            throw problem("is not JSON\(place(of: error)): quotation marks, commas and brackets have to be right")
        }
        return try check(value)
    }

    fileprivate static func check(_ params: JSONValue) throws(Problem) -> JSONValue {
        if let fault = CommandMessage.fault(ofParams: params) { throw problem(fault) }
        if let key = HeaderMask.maskedKey(in: params) {
            throw problem("has '\(HeaderMask.mask)' as its \(key.prefix(60)): that stands for a value that is not shown. Reveal it first")
        }
        return params
    }

    private static func problem(_ fault: String) -> Problem {
        var problem = Problem(status: .badRequest, title: "Not understood", detail: "params \(fault). Allowed is \(allowed).")
        problem.kind = "parameter"
        problem.members = ["parameter": "params", "value": .null, "allowed": .string(allowed)]
        return problem
    }

    /// Where the trouble is, when the reader says it; never what stands there.
    private static func place(of error: any Error) -> String {
        guard case DecodingError.dataCorrupted(let context) = error else { return "" }
        let text = "\(context.debugDescription) \(context.underlyingError.map { "\($0)" } ?? "")"
        guard let match = text.firstMatch(of: /line (\d+), column (\d+)/) else { return "" }
        return " near line \(match.output.1), column \(match.output.2)"
    }
}

/// What a request says of a retry or a discard.
struct JobOrder {
    var params: JSONValue?
    /// The attempt that whoever asks has seen.
    var attempt: Int?

    /// - Parameter body: of a request: nil, or `{"params": {...}, "attempt": 2}`, of which either may be missing.
    init(_ body: JSONValue?, takesParams: Bool) throws(Problem) {
        guard let body else { return }
        let keys = takesParams ? ["params", "attempt"] : ["attempt"]
        let words = keys.joined(separator: ", ")
        guard let members = body.object else { throw .badRequest("The body is an object, or nothing. Keys that it may have: \(words).") }
        if let other = members.keys.sorted().first(where: { !keys.contains($0) }) {
            throw .parameter(String(other.prefix(60)), nil, allowed: "only the keys \(words)")
        }
        if let given = members["attempt"] {
            guard let number = given.integer, let attempt = Int(exactly: number) else { throw Self.noAttempt }
            self.attempt = attempt
        }
        params = if let given = members["params"] { try ParamsText.check(given) } else { nil }
    }

    /// - Parameter text: of a form's hidden field; nil in a form that has none.
    static func attempt(_ text: String?) throws(Problem) -> Int? {
        guard let text else { return nil }
        guard let attempt = Int(text) else { throw noAttempt }
        return attempt
    }

    private static let noAttempt = Problem.parameter("attempt", nil, allowed: "the number of the attempt that is meant")
}

extension HeaderMask {
    /// The first key whose value is the mask itself: nobody means that as a value.
    static func maskedKey(in value: JSONValue) -> String? {
        switch value {
        case .object(let members):
            for (key, member) in members.sorted(by: { $0.key < $1.key }) {
                if identifies(key), member == .string(mask) { return key }
                if let found = maskedKey(in: member) { return found }
            }
            return nil
        case .array(let elements):
            for element in elements { if let found = maskedKey(in: element) { return found } }
            return nil
        case .null, .bool, .integer, .number, .string: return nil
        }
    }
}

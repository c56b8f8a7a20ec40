import Foundation
import HTTPTypes
import Hummingbird
import Jobs

/// What an operation can be asked with. What is declared here is both checked and documented.
struct APIParameter: Sendable {
    enum Kind: Sendable {
        case text(longest: Int)
        case one([String])
        /// Several with commas between them.
        case several([String])
        case integer(ClosedRange<Int64>)
        case flag
        /// ISO 8601, or a day.
        case time
    }

    enum Place: String, Sendable {
        case path
        case query
        case header
    }

    var name: String
    var place: Place
    var kind: Kind
    var description: String
    /// As a schema of JSON; nil where the kind says it all.
    var standard: JSONValue?
    var example: JSONValue?

    static func query(
        _ name: String, _ kind: Kind, _ description: String, standard: JSONValue? = nil, example: JSONValue? = nil
    ) -> APIParameter {
        APIParameter(name: name, place: .query, kind: kind, description: description, standard: standard, example: example)
    }

    static func path(_ description: String, example: JSONValue? = nil) -> APIParameter {
        APIParameter(name: "id", place: .path, kind: .text(longest: 256), description: description, example: example)
    }

    // MARK: Those that many operations share

    static let limit = query("limit", .integer(1...500), "How many at most.", standard: 50)
    static let cursor = query(
        "cursor", .text(longest: 512), "The `next` of the page before, of the same list with the same filter. Nothing else is one.")

    // MARK: Checking

    /// - Throws: `Problem` that names the parameter, what was given and what is allowed.
    func check(_ text: String) throws(Problem) {
        let isAllowed =
            switch kind {
            case .text(let longest): text.utf8.count <= longest && !text.unicodeScalars.contains { $0.value == 0 }
            case .one(let names): names.contains(text)
            case .several(let names): text.split(separator: ",").allSatisfy { names.contains(String($0)) }
            case .integer(let range): Int64(text).map(range.contains) ?? false
            case .flag: text == "true" || text == "false"
            case .time: APITime.date(text) != nil
            }
        guard isAllowed else { throw .parameter(name, text, allowed: allowed) }
    }

    var allowed: String {
        switch kind {
        case .text(let longest): "text of at most \(longest) bytes"
        case .one(let names): names.joined(separator: ", ")
        case .several(let names): "one or several, with commas, of \(names.joined(separator: ", "))"
        case .integer(let range):
            range.upperBound == .max
                ? "a whole number from \(range.lowerBound) on"
                : "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .flag: "true, false"
        case .time: "a time like 2026-01-31T23:59:59Z, or a day like 2026-01-31"
        }
    }

    // MARK: Documenting

    var document: JSONValue {
        var document: [String: JSONValue] = [
            "name": .string(name), "in": .string(place.rawValue), "description": .string(description), "required": .bool(place == .path),
            "schema": schema,
        ]
        if case .several = kind {
            document["style"] = "form"
            document["explode"] = false
        }
        if let example { document["example"] = example }
        return .object(document)
    }

    /// As a text of a body, where lists keep their commas.
    var bodySchema: JSONValue {
        switch kind {
        case .text(let longest): ["type": "string", "maxLength": .integer(Int64(longest))]
        case .one(let names): Schema.one(of: names)
        case .several, .integer, .flag, .time: ["type": "string", "description": .string("\(description) Allowed: \(allowed).")]
        }
    }

    private var schema: JSONValue {
        var schema: [String: JSONValue] =
            switch kind {
            case .text(let longest): ["type": "string", "maxLength": .integer(Int64(longest)), "minLength": place == .path ? 1 : 0]
            case .one(let names): ["type": "string", "enum": .array(names.map(JSONValue.string))]
            case .several(let names): ["type": "array", "items": Schema.one(of: names)]
            case .integer(let range):
                ["type": "integer", "minimum": .integer(range.lowerBound), "maximum": .integer(range.upperBound), "format": "int64"]
            case .flag: ["type": "boolean"]
            case .time: ["type": "string"]
            }
        if let standard { schema["default"] = standard }
        return .object(schema)
    }
}

extension [APIParameter] {
    /// What a request says to them, by name. What is empty is not said.
    func values(of request: Request) -> [String: String] {
        reduce(into: [:]) { values, parameter in
            if let text = request.query(parameter.name), !text.isEmpty { values[parameter.name] = text }
        }
    }

    /// Equal for requests that ask for the same list.
    func fingerprint(of values: [String: String]) -> String {
        map { values[$0.name] ?? "" }.joined(separator: "\u{1}")
    }
}

/// Times as parameters.
enum APITime {
    static func date(_ text: String) -> Date? {
        if let date = try? Date(text, strategy: .iso8601) { return date }
        if let date = try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)) { return date }
        return try? Date(text, strategy: Date.ISO8601FormatStyle().year().month().day())
    }
}

extension Problem {
    /// A parameter, or a key of a body, that does not fit.
    static func parameter(_ name: String, _ value: String?, allowed: String) -> Problem {
        let shown = value.map { $0.utf8.count > 80 ? String($0.prefix(60)) + "…" : $0 }
        let said = shown.map { "is '\($0)'" } ?? "is missing"
        var problem = Problem(status: .badRequest, title: "Not understood", detail: "\(name) \(said): allowed is \(allowed).")
        problem.kind = "parameter"
        problem.members = ["parameter": .string(name), "value": JSONValue(shown), "allowed": .string(allowed)]
        return problem
    }
}

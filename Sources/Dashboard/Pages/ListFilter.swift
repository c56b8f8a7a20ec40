import Foundation
import Hummingbird
import Jobs

/// The conditions of a list, as its page's address and its form have them.
struct ListFilter {
    /// A condition that is set, and the list without it.
    struct Condition {
        var words: String
        var url: String
    }

    /// A value that a condition may have.
    struct Choice {
        var value: String
        var isChosen: Bool
    }

    /// Where the list is: `/runs`.
    let page: String
    /// Those that are set, as they were written.
    let fields: [(name: String, value: String)]
    /// The same as the API takes them: times are whole ones.
    let parameters: [String: String]

    /// - Parameter parameters: what the list can be asked with.
    /// - Throws: `Problem` for what cannot be read. Any text can be looked for.
    init(_ page: String, _ parameters: [APIParameter], _ request: Request) throws {
        self.page = page
        var fields: [(name: String, value: String)] = []
        var whole: [String: String] = [:]
        for parameter in parameters {
            guard let given = request.query(parameter.name)?.trimmingCharacters(in: .whitespacesAndNewlines), !given.isEmpty else {
                continue
            }
            fields.append((parameter.name, given))
            switch parameter.kind {
            case .time: whole[parameter.name] = try Self.time(given, parameter.name).formatted(.iso8601)
            case .text: whole[parameter.name] = given
            case .one, .several, .integer, .flag:
                try parameter.check(given)
                whole[parameter.name] = given
            }
        }
        self.fields = fields
        self.parameters = whole
    }

    /// As it was written; empty when it is not set.
    subscript(name: String) -> String { fields.first { $0.name == name }?.value ?? "" }

    /// The address of the list with these conditions, but for some of them.
    func path(without names: Set<String> = [], with extra: [(String, String?)] = []) -> String {
        PagerModel.path(page, fields.filter { !names.contains($0.name) }.map { ($0.name, $0.value) } + extra)
    }

    /// In people's words, each with the list without it.
    func conditions(without names: Set<String> = []) -> [Condition] {
        fields.filter { !names.contains($0.name) }.map { name, value in
            Condition(words: BulkOrder.words(name, parameters[name] ?? value), url: path(without: [name]))
        }
    }

    /// As a bulk order takes them.
    var order: [(String, String?)] { fields.map { ($0.name, parameters[$0.name]) } }

    /// What a form offers for `name`; a value that is set is among it, whatever it is.
    func choices(_ name: String, of values: [String]) -> [Choice] {
        let chosen = self[name]
        let all = chosen.isEmpty || values.contains(chosen) ? values : values + [chosen]
        return all.map { Choice(value: $0, isChosen: $0 == chosen) }
    }

    /// `2026-11-22`, `2026-11-22T16:20` in the monitor's time zone, or a whole ISO 8601 time with its own.
    private static func time(_ text: String, _ name: String) throws -> Date {
        if let date = try? Date(text, strategy: .iso8601) { return date }
        if let date = try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)) { return date }
        let parts = text.split { !$0.isNumber }.compactMap { Int($0) }
        guard parts.count == 3 || parts.count == 5 || parts.count == 6, text.allSatisfy({ $0.isNumber || "-T: ".contains($0) }) else {
            throw Problem.badRequest("\(name) is a time such as 2026-11-22, 2026-11-22T16:20 or 2026-11-22T16:20:00Z.")
        }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .current
        let components = DateComponents(
            year: parts[0], month: parts[1], day: parts[2], hour: parts.count > 3 ? parts[3] : 0, minute: parts.count > 3 ? parts[4] : 0,
            second: parts.count > 5 ? parts[5] : 0)
        guard components.isValidDate(in: calendar), let date = calendar.date(from: components) else {
            throw Problem.badRequest("\(name): there is no time \(text.prefix(40)).")
        }
        return date
    }
}

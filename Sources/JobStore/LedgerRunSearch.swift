import Foundation
import GRDB
import Jobs

/// How the runs that a filter matches are found: in the order of their ids, from the condition that leaves the fewest of them.
///
/// Each condition is either where the runs come from, an index in the order of runs, or what each of them is asked. So a page costs what
/// it shows and not what the ledger holds: what few have is walked along by itself, and what many have fills the page soon. Which it is
/// is counted first, up to a limit. The other conditions are written so that SQLite does not take their indexes too and sort.
struct LedgerRunSearch {
    /// The run's id, in which order the rows come.
    private(set) var id = "run.id"
    private(set) var arguments = StatementArguments()
    private var source = "run"
    private var conditions: [String] = []
    private var once: String?

    /// So many are counted of a value to see how common it is.
    static let probe = 30_000

    private struct Condition {
        /// Runs, at most, that it leaves; nil when nobody knows.
        var runs: Int?
        /// Where runs come from, their id there, and on what condition.
        var source: (table: String, id: String, condition: String)
        /// Where a run would come more than once: asked last, of those that are left.
        var once: String?
        /// What a run is asked instead; `$run` is its id.
        var test: String
        var arguments: StatementArguments

        /// Runs with a job that has `value` in `column`, which has an index.
        ///
        /// - Parameter jobs: how many have it.
        static func jobs(_ column: String, _ value: String, _ jobs: Int) -> Condition {
            Condition(
                runs: jobs,
                source: ("job AS found CROSS JOIN", "found.run_id", "found.\(column) = ?"),
                once: """
                    NOT EXISTS (SELECT 1 FROM job AS other
                        WHERE other.\(column) = found.\(column) AND other.run_id = found.run_id AND other.rowid < found.rowid)
                    """,
                test: "EXISTS (SELECT 1 FROM job WHERE \(column) = ? AND run_id = $run)", arguments: [value])
        }
    }

    /// - Parameters:
    ///   - common: what is known to be common.
    ///   - probe: from how many on something is too common to be looked up whole.
    init(_ filter: LedgerRunFilter, _ db: Database, common: CommonValues = CommonValues(), probe: Int = Self.probe) throws {
        func count(_ rows: String, _ values: String...) throws -> Int { try common.count(rows, values, db, limit: probe) }
        var sets: [(String, StatementArguments)] = []
        var choices: [Condition] = []
        var tests: [(String, StatementArguments)] = []
        if filter.states.count == 1, let state = filter.states.first {
            let runs = try Int.fetchOne(db, sql: "SELECT runs FROM run_tally WHERE state = ?", arguments: [state.rawValue]) ?? 0
            choices.append(
                Condition(
                    runs: runs, source: ("run", "run.id", "run.state = ?"), test: "+run.state = ?", arguments: [state.rawValue]))
        } else if !filter.states.isEmpty {
            let states = "IN (\(databaseQuestionMarks(count: filter.states.count)))"
            let arguments = StatementArguments(filter.states.map(\.rawValue))
            let runs = try Int.fetchOne(db, sql: "SELECT sum(runs) FROM run_tally WHERE state \(states)", arguments: arguments) ?? 0
            if runs < probe {
                sets.append(("SELECT id FROM run WHERE state \(states)", arguments))
            } else {
                tests.append(("+run.state \(states)", arguments))
            }
        }
        if let service = filter.service { choices.append(.jobs("service", service, try count("job WHERE service = ?", service))) }
        if let event = filter.event {
            if let sequence = Int64(event) {
                sets.append(("SELECT id FROM run WHERE event_seq = ?", [sequence]))
            } else {
                sets.append(
                    (
                        """
                        SELECT id FROM run WHERE resource_id = ?
                        UNION ALL SELECT id FROM run WHERE event_seq = (SELECT seq FROM event WHERE snapshot = ?)
                        """, [event, event]
                    ))
            }
        }
        if let text = filter.text {
            switch try Self.text(text, probe, { try common.count($0, $1, db, limit: probe) }) {
            case .set(let set, let arguments): sets.append((set, arguments))
            case .test(let test, let arguments): tests.append((test, arguments))
            case .name: choices.append(.jobs("name", text, try count("job WHERE name = ?", text)))
            }
        }
        if let modality = filter.modality {
            choices.append(
                Condition(
                    runs: try count("run_modality WHERE modality = ?", modality),
                    source: ("run_modality AS found CROSS JOIN", "found.run_id", "found.modality = ?"),
                    test: "EXISTS (SELECT 1 FROM run_modality WHERE modality = ? AND run_id = $run)", arguments: [modality]))
        }
        // Of what is equally common the first is taken, and a level is what most runs have.
        if let level = filter.level {
            choices.append(
                Condition(
                    runs: try count("run WHERE level = ?", level), source: ("run", "run.id", "run.level = ?"),
                    test: "+run.level = ?", arguments: [level]))
        }
        if let error = filter.error {
            sets.append(("SELECT run_id FROM failure WHERE words LIKE ? ESCAPE '\\'", [error.anywhere]))
        }
        // A set is looked up whole, so it is where the runs come from.
        let best = sets.isEmpty ? choices.indices.min { choices[$0].runs ?? .max < choices[$1].runs ?? .max } : nil
        if let best {
            let choice = choices.remove(at: best)
            (source, id) = (choice.source.table, choice.source.id)
            add(choice.source.condition, choice.arguments)
            once = choice.once
        }
        for (set, arguments) in sets { add("run.id IN (\(set))", arguments) }
        // Runs' ids begin with the time of their making.
        if let from = filter.from { add("\(id) >= ?", [LedgerReader.firstID(at: from)]) }
        if let to = filter.to { add("\(id) < ?", [LedgerReader.firstID(at: to)]) }
        // What leaves the fewest is asked first.
        for choice in choices.sorted(by: { $0.runs ?? .max < $1.runs ?? .max }) { tests.append((choice.test, choice.arguments)) }
        for (test, arguments) in tests { add(test.replacing("$run", with: id), arguments) }
    }

    mutating func add(_ condition: String, _ values: StatementArguments) {
        conditions.append(condition)
        arguments += values
    }

    /// - Parameter isCounting: nothing but the runs' ids and states is asked for.
    func sql(_ columns: String, isCounting: Bool = false) -> String {
        let joined = source == "run" ? "run" : "\(source) run\(isCounting ? " INDEXED BY run_brief" : "") ON run.id = \(id)"
        let asked = conditions + (once.map { [$0] } ?? [])
        let filtered = asked.isEmpty ? "" : " WHERE " + asked.joined(separator: " AND ")
        return "SELECT \(columns) FROM \(joined)\(filtered)"
    }

    private enum TextSearch {
        /// Few runs: a query for their ids.
        case set(String, StatementArguments)
        case test(String, StatementArguments)
        /// Nothing begins so, but jobs are called so.
        case name
    }

    /// The beginning of a run's or an Orthanc id, a job's id, or a job's name.
    private static func text(_ text: String, _ probe: Int, _ count: (String, [String]) throws -> Int) throws -> TextSearch {
        // A prefix as a range, so that the indexes serve it.
        let run = String(text.uppercased().prefix { $0 != "." })
        let end = "\u{10FFFF}"
        let parts: [(rows: String, set: String, test: String, arguments: [String])] = [
            (
                "run WHERE id >= ? AND id < ?", "SELECT id FROM run WHERE id >= ? AND id < ?", "(+run.id >= ? AND +run.id < ?)",
                [run, run + end]
            ),
            (
                "run WHERE resource_id >= ? AND resource_id < ?", "SELECT id FROM run WHERE resource_id >= ? AND resource_id < ?",
                "(+run.resource_id >= ? AND +run.resource_id < ?)", [text, text + end]
            ),
            (
                "job WHERE name = ?", "SELECT run_id FROM job WHERE name = ?",
                "EXISTS (SELECT 1 FROM job WHERE name = ? AND run_id = $run)", [text]
            ),
        ]
        let counts = try parts.map { try count($0.rows, $0.arguments) }
        let found = zip(parts, counts).filter { $0.1 > 0 }.map(\.0)
        let arguments = StatementArguments(found.flatMap(\.arguments))
        guard counts.reduce(0, +) >= probe else {
            return .set(found.isEmpty ? "NULL" : found.map(\.set).joined(separator: " UNION ALL "), arguments)
        }
        if found.count == 1, counts[2] > 0 { return .name }
        return .test("(" + found.map(\.test).joined(separator: " OR ") + ")", arguments)
    }
}

extension String {
    /// For `LIKE ? ESCAPE '\'`: whatever holds this text.
    var anywhere: String {
        "%" + replacing("\\", with: "\\\\").replacing("%", with: "\\%").replacing("_", with: "\\_") + "%"
    }
}

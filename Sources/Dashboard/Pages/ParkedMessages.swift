import Foundation
import Hummingbird
import JobStore
import Jobs
import Pipeline

/// Messages that nobody could read: the list on the dead letters page, what a person does about them, and what is in them.
struct ParkedMessagesPanel {
    struct Row {
        var number: String
        var at: String
        var queue: String
        var routingKey: String?
        var reason: String
        var type: String
        var messageID: String?
        var size: String
        var mark: String
        /// Who decided what and when. Already HTML.
        var decision: String?
        var problem: String?
        var canRequeue: Bool
        var canDiscard: Bool
        var canReveal: Bool
    }

    var rows: [Row]
    var pager: PagerModel
    /// How many wait for a decision, all pages together.
    var count: String
    var isEmpty: Bool
    var isDecided: Bool
    /// Where the other half is.
    var other: String
    /// The newest that the page shows: "all" means none that came after it.
    var newest: String?
    /// What "all" would do: `12 messages`, or `the oldest 500 messages`; nil when there is nothing to do.
    var requeueable: String?
    var discardable: String?
    /// Names of queues are the broker's own.
    var deadQueue = PipelineQueue.dead

    init(_ page: LedgerPage<LedgerDeadMessage>, open: Int, toDecide: (all: Int, requeueable: Int), isDecided: Bool, cursor: String?) {
        rows = page.items.map(Row.init)
        let path = isDecided ? "/dead?decided=true" : "/dead"
        pager = PagerModel(path, cursor, page.next, parameter: "messageCursor")
        count = Display.number(open)
        isEmpty = page.items.isEmpty
        self.isDecided = isDecided
        other = isDecided ? "/dead#messages" : "/dead?decided=true#messages"
        newest = isDecided || toDecide.all < 2 ? nil : page.items.first.map { String($0.sequence) }
        requeueable = Self.all(toDecide.requeueable)
        discardable = Self.all(toDecide.all)
    }

    private static func all(_ count: Int) -> String? {
        switch count {
        case 0: nil
        case 1: "1 message"
        case ...ParkedSelection.most: "\(Display.number(count)) messages"
        default: "the oldest \(ParkedSelection.most) messages"
        }
    }
}

extension ParkedMessagesPanel.Row {
    init(_ message: LedgerDeadMessage) {
        let isOpen = message.state == .parked
        let decision = message.decidedBy.map { actor in
            "\(message.state.rawValue) by \(HTMLText.escape(actor))"
                + (message.decidedAt.map { " \(Markup.time($0, isRelative: true))" } ?? "")
        }
        self.init(
            number: String(message.sequence),
            at: Markup.time(message.at, isRelative: true),
            queue: message.queue,
            routingKey: message.routingKey == message.queue ? nil : message.routingKey,
            reason: message.reason,
            type: message.type ?? "none",
            messageID: message.messageID,
            size: Display.bytes(Int64(message.size)),
            mark: StateMark.html(message.state.rawValue, like: message.state.mark),
            decision: isOpen ? nil : decision,
            problem: message.problem,
            canRequeue: isOpen && message.hasBody,
            canDiscard: isOpen,
            canReveal: message.hasBody)
    }
}

extension ParkedMessage.State {
    /// Which state's shape and colour it has.
    fileprivate var mark: String {
        switch self {
        case .parked: "warning"
        case .requeueing: "running"
        case .requeued: "ok"
        case .discarded: "skipped"
        }
    }
}

extension LedgerReader {
    /// What the dead letters page shows of them.
    func parkedMessages(cursor: String?, isDecided: Bool, open: Int) async throws -> ParkedMessagesPanel {
        let page = try await deadMessages(limit: 50, cursor: cursor, decided: isDecided)
        var toDecide = (all: 0, requeueable: 0)
        if !isDecided, let newest = page.items.first { toDecide = try await deadMessagesToDecide(upTo: newest.sequence) }
        return ParkedMessagesPanel(page, open: open, toDecide: toDecide, isDecided: isDecided, cursor: cursor)
    }
}

/// One message with what it holds, which may be patient data.
private struct MessagePage {
    var row: ParkedMessagesPanel.Row
    var text: String
    var isText: Bool
    var isCut: Bool
}

struct ParkedMessages: Sendable {
    let ledger: LedgerReader
    let store: MonitorStore
    let commands: Commands

    /// The forms of the dead letters page.
    func addRoutes(to router: Router<DashboardContext>, pages: PageController) {
        router.post("/dead/undecodable/:id/requeue") { try await act(.requeueMessage, $0, $1) }
        router.post("/dead/undecodable/:id/discard") { try await act(.discardMessage, $0, $1) }
        router.post("/dead/undecodable/:id/reveal") { try await reveal($0, $1, pages) }
    }

    private func act(
        _ action: CommandMessage.Action, _ request: Request, _ context: DashboardContext
    ) async throws -> Response {
        let identity = try context.requireIdentity()
        let target = try Self.target(context.parameters.require("id"), through: context.form["through"])
        _ = try await commands.send(action, target: target, by: identity)
        return .redirect(to: "/dead?done=\(action.rawValue)")
    }

    /// The answer to the form itself: nothing of it stays in an address or a history.
    private func reveal(_ request: Request, _ context: DashboardContext, _ pages: PageController) async throws -> Response {
        let (message, body) = try await revealed(context)
        let text = String(validating: body, as: UTF8.self)
        let shown = text.map(Self.pretty) ?? Data(body.prefix(Self.longestShown)).base64EncodedString()
        let model = MessagePage(
            row: ParkedMessagesPanel.Row(message), text: String(shown.prefix(Self.longestShown)), isText: text != nil,
            isCut: shown.count > Self.longestShown || (text == nil && body.count > Self.longestShown))
        return try pages.pages.response(
            "message", model, title: "Message \(message.sequence)", context, frame: await pages.frame("/dead", request))
    }

    private static let longestShown = 200_000

    private static func pretty(_ text: String) -> String {
        (try? JSONValue(json: Data(text.utf8))).map(PrettyJSON.text) ?? text
    }

    /// Nothing is revealed that could not be recorded.
    private func revealed(_ context: DashboardContext) async throws -> (LedgerDeadMessage, [UInt8]) {
        let identity = try context.requireIdentity()
        let id = try context.parameters.require("id")
        guard let number = Int64(id), let message = try await ledger.deadMessage(number) else {
            throw Problem.notFound("There is no message '\(id)'.")
        }
        guard let body = try await ledger.body(ofDeadMessage: number) else {
            throw Problem.conflict(
                message.state.isOpen
                    ? "Its body is not kept here: look on the broker, in the queue \(PipelineQueue.dead)."
                    : "It was \(message.state.rawValue): its body is not kept any more.")
        }
        try await store.record(identity.entry("reveal-message", .init("message", String(number))))
        return (message, body)
    }

    /// A number, or `all` up to the one that is named.
    static func target(_ id: String, through: String?) throws(Problem) -> String {
        guard id == "all" else {
            guard ParkedSelection(id).map({ $0.text == id && !id.hasPrefix("..") }) == true else {
                throw .notFound("There is no message '\(id)'.")
            }
            return id
        }
        guard let last = through.flatMap(Int64.init), last > 0 else {
            throw .parameter("through", through, allowed: "the number of the newest message that is meant: none that came later is")
        }
        return ParkedSelection.upTo(last).text
    }
}

// MARK: - For programs

extension ParkedMessages {
    var routes: [APIRoute] {
        [
            route("requeue", "requeueMessage", "Sends a message that could not be read to its queue once more", .requeueMessage),
            route("discard", "discardMessage", "Takes a message that could not be read off the list", .discardMessage),
            .post(
                "/dead/undecodable/{id}/reveal", "revealMessage", "pipeline", "What such a message holds; recorded in the audit",
                parameters: [.path("A message's number.")], status: .ok, answer: Schema.ref("RevealedMessage"),
                failures: [.notFound, .conflict], role: .admin
            ) { _, context in
                let (message, body) = try await revealed(context)
                let text = String(validating: body, as: UTF8.self)
                return .json([
                    "sequence": .integer(message.sequence), "queue": .string(message.queue), "type": JSONValue(message.type),
                    "encoding": .string(text == nil ? "base64" : "utf-8"),
                    "body": .string(text ?? Data(body).base64EncodedString()),
                ])
            },
        ]
    }

    private func route(_ verb: String, _ name: String, _ summary: String, _ action: CommandMessage.Action) -> APIRoute {
        .post(
            "/dead/undecodable/{id}/\(verb)", name, "pipeline", summary,
            parameters: [
                .path("A message's number (`sequence`), or `all`: the oldest \(ParkedSelection.most), again and again for more."),
                .query(
                    "through", .integer(1...Int64.max),
                    "With `all`: the number of the newest message that is meant; none that came later is.",
                    example: 12),
            ], answer: Schema.ref("CommandReceipt"), failures: [.notFound, .conflict]
        ) { request, context in
            let identity = try context.requireIdentity()
            let target = try Self.target(context.parameters.require("id"), through: request.query("through"))
            return .json(["command": .string(try await commands.send(action, target: target, by: identity))])
        }
    }
}

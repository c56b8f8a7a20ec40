import Hummingbird
import JobStore
import Jobs

/// The part of the dead letters' page that shows messages which nobody could read.
struct DeadMessages {
    struct Row {
        var at: String
        var queue: String
        var reason: String
        var type: String
        var messageID: String
        var size: String
    }

    var rows: [Row]
    var pager: PagerModel
    var hasPager: Bool

    var isEmpty: Bool { rows.isEmpty && !hasPager }
}

extension PageController {
    func deadMessages(_ request: Request) async throws -> DeadMessages {
        let cursor = request.query("messageCursor")
        let messages = try await ledger.deadMessages(limit: 50, cursor: cursor)
        return DeadMessages(
            rows: messages.items.map { message in
                DeadMessages.Row(
                    at: Markup.time(message.at, isRelative: true), queue: message.queue, reason: message.reason,
                    type: message.type ?? "none", messageID: message.messageID ?? "none", size: Display.bytes(Int64(message.size)))
            }, pager: PagerModel("/dead", cursor, messages.next, parameter: "messageCursor"),
            hasPager: cursor != nil || messages.next != nil)
    }
}

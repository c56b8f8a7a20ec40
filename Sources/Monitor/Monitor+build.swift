import AMQP
import Bootstrap
import Dashboard
import Foundation
import JobStore
import Logging
import Pipeline
import ServiceLifecycle

/// The monitor's services, dependencies first.
func buildMonitor(_ context: ServiceContext) throws -> [any Service] {
    let folders = context.folders
    let store = try MonitorStore(folder: folders.state)
    let configuration = try DashboardConfiguration(settings: context.settings, folders: folders, hasUsers: store.hasUsers())
    if let token = configuration.token, token.utf8.count < 16 {
        // Whoever has it always passes, however often others guessed: its length is what stops them.
        context.logger.warning("MONITOR_TOKEN is shorter than 16 characters and can be guessed: set a longer one")
    }
    let ledger = LedgerReader(path: Ledger.file(in: folders.state).path)
    let feed = FactFeed(ledger: ledger, logger: context.logger)
    var connection = try context.broker()
    // Somebody waits in front of a page for the answer.
    connection.publishTimeout = .seconds(5)
    let broker = AMQPClient(configuration: connection, topology: PipelineTopology.monitor(), logger: context.logger)
    let vitals = RouterVitals()
    let webhooks = WebhookQueue(broker: broker)
    let webhookVitals = WebhookVitals()
    let courier = WebhookCourier(store: store, queue: webhooks, vitals: webhookVitals, logger: context.logger)
    let follower = WebhookFollower(
        ledger: ledger, store: store, feed: feed, queue: webhooks, vitals: webhookVitals, address: configuration.address,
        logger: context.logger
    ) { courier.serve($0) }
    let server = DashboardServer(
        configuration: configuration,
        ledger: ledger,
        journal: IngestJournalReader(path: IngestJournal.file(in: folders.state).path),
        store: store,
        sender: BrokerCommandSender(broker: broker),
        webhooks: webhooks,
        webhookVitals: webhookVitals,
        feed: feed,
        queues: MonitoredQueues(broker: broker),
        vitals: vitals,
        logger: context.logger
    ) { _ in context.readiness.markReady() }
    return [
        context.readiness, broker, feed, FactDoorbell(broker: broker, ring: { feed.ring() }, note: { vitals.note($0, at: Date()) }),
        courier, follower, server,
    ]
}

extension DashboardConfiguration {
    /// - `MONITOR_HOST` (address, default `127.0.0.1`): what to listen on. Anything but this machine itself needs MONITOR_TOKEN.
    /// - `MONITOR_PORT` (0 to 65535, default 8080): 0 takes any free port.
    /// - `MONITOR_TOKEN` (text, secret, default none): who has it is an operator.
    /// - `MONITOR_SESSION_IDLE` (seconds, default 43200), `MONITOR_SESSION_LIFETIME` (seconds, default 604800): when a sign-in ends.
    /// - `MONITOR_PROXY_...`: see `ProxySignIn`.
    /// - `MONITOR_RABBITMQ_URL` (http or https URL, default RABBITMQ_MANAGEMENT_URL, else none): RabbitMQ's own pages as a browser finds
    ///   them; the page of the queues links to them.
    /// - `MONITOR_ORTHANC_URL` (http or https URL, or `name=URL` with commas between; default none): the Orthanc servers as a browser finds
    ///   them; runs and results link to them. One URL alone is that of the server `orthanc`.
    /// - `MONITOR_URL` (http or https URL, default `http://MONITOR_HOST:MONITOR_PORT`, none when that is every address or any port): how
    ///   others reach the monitor; the links in what webhooks are sent begin with it.
    init(settings: Settings, folders: ServiceFolders, hasUsers: Bool = false) throws {
        do {
            try self.init(
                host: settings.text("MONITOR_HOST") ?? "127.0.0.1",
                port: try settings.integer("MONITOR_PORT", default: 8080, in: 0...65535),
                token: settings.text("MONITOR_TOKEN", isSecret: true),
                proxy: try ProxySignIn(settings: settings),
                hasUsers: hasUsers,
                data: folders.data,
                logs: folders.logs
            )
            if let text = settings.text("MONITOR_RABBITMQ_URL") ?? settings.text("RABBITMQ_MANAGEMENT_URL") {
                guard let url = URL(string: text), ["http", "https"].contains(url.scheme), url.host != nil, url.password == nil else {
                    throw SettingError(
                        variable: "MONITOR_RABBITMQ_URL", value: nil,
                        allowed: "the http or https address of RabbitMQ's management pages, without a user and a password")
                }
                management = text
            }
            if let text = settings.text("MONITOR_ORTHANC_URL") {
                guard let pages = OrthancPages(text) else {
                    throw SettingError(
                        variable: "MONITOR_ORTHANC_URL", value: nil,
                        allowed: """
                            the http or https address of Orthanc's pages, without a user and a password, or name=address with \
                            commas between
                            """)
                }
                orthanc = pages
            }
            address = try Self.address(settings, host: host, port: port)
        } catch let error as DashboardError where error.code == .noToken {
            throw SettingError(
                variable: "MONITOR_TOKEN", value: nil,
                allowed: """
                    a long secret, because MONITOR_HOST is an address that other machines can reach and there are no users \
                    (127.0.0.1 needs none; 'dcm-tool user add' adds one)
                    """)
        }
        sessionLifetime = SessionLifetime(
            idle: try settings.seconds("MONITOR_SESSION_IDLE", default: 12 * 3600, in: 60...(30 * 86400)),
            absolute: try settings.seconds("MONITOR_SESSION_LIFETIME", default: 7 * 86400, in: 60...(90 * 86400)))
    }

    private static func address(_ settings: Settings, host: String, port: Int) throws -> String? {
        guard var text = settings.text("MONITOR_URL") else {
            guard port != 0, !["0.0.0.0", "::", "[::]"].contains(host) else { return nil }
            return "http://\(host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host):\(port)"
        }
        guard let url = URL(string: text), ["http", "https"].contains(url.scheme), url.host != nil, url.user == nil, url.query == nil,
            url.fragment == nil
        else {
            throw SettingError(
                variable: "MONITOR_URL", value: nil,
                allowed: "the http or https address by which others reach the monitor, without a user and anything after '?' or '#'")
        }
        while text.hasSuffix("/") { text.removeLast() }
        return text
    }
}

extension ProxySignIn {
    /// - `MONITOR_PROXY_HEADER` (text, default none): holds the user's name; without it nobody is signed in by a proxy.
    /// - `MONITOR_PROXY_ADDRESSES` (list): from where it is believed, and has to be set then; X-Forwarded-For is believed from there too.
    /// - `MONITOR_PROXY_ROLES_HEADER` (text, default none): holds roles, or groups that `MONITOR_PROXY_ROLES` turns into roles.
    /// - `MONITOR_PROXY_ROLES` (list of `group=role`, default none).
    init?(settings: Settings) throws {
        let header = settings.text("MONITOR_PROXY_HEADER")
        if let header { try Self.check(header, "MONITOR_PROXY_HEADER") }
        let rolesHeader = settings.text("MONITOR_PROXY_ROLES_HEADER")
        if let rolesHeader { try Self.check(rolesHeader, "MONITOR_PROXY_ROLES_HEADER") }
        let allowed = "the addresses of the proxy, 10.0.0.7 or 10.0.0.0/24, because its headers are believed from nowhere else"
        let texts = settings.list("MONITOR_PROXY_ADDRESSES", default: [])
        if header == nil, texts.isEmpty { return nil }
        guard !texts.isEmpty else { throw SettingError(variable: "MONITOR_PROXY_ADDRESSES", value: nil, allowed: allowed) }
        let addresses = try texts.map { text in
            guard let range = AddressRange(text) else {
                throw SettingError(variable: "MONITOR_PROXY_ADDRESSES", value: text, allowed: allowed)
            }
            return range
        }
        var roles: [String: AccountRole] = [:]
        for pair in settings.list("MONITOR_PROXY_ROLES", default: []) {
            let sides = pair.split(separator: "=", maxSplits: 1)
            guard sides.count == 2, let role = AccountRole(rawValue: String(sides[1])) else {
                throw SettingError(
                    variable: "MONITOR_PROXY_ROLES", value: pair,
                    allowed: "group=role with commas between; roles are viewer, operator, admin")
            }
            roles[String(sides[0])] = role
        }
        self.init(header: header, rolesHeader: rolesHeader, roles: roles, addresses: addresses)
    }

    private static func check(_ header: String, _ variable: String) throws(SettingError) {
        let isName = header.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte) || byte == 0x2d
        }
        guard isName, !["authorization", "cookie", "host"].contains(header.lowercased()) else {
            throw SettingError(variable: variable, value: header, allowed: "the name of a header, such as X-Remote-User")
        }
    }
}

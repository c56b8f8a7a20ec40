import Foundation
import Hummingbird
package import JobStore
package import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

/// The monitor's web server: pages, JSON API, live feed, metrics.
package struct DashboardServer: Service {
    private let configuration: DashboardConfiguration
    private let ledger: LedgerReader
    private let journal: IngestJournalReader
    private let store: MonitorStore
    private let sender: any CommandSender
    private let webhooks: (any WebhookSender)?
    private let webhookVitals: WebhookVitals
    private let feed: FactFeed
    private let queues: (any BrokerQueues)?
    private let vitals: RouterVitals
    private let bulk: BulkRunner
    private let durations: Durations
    private let ended: EndedBars
    private let logger: Logger
    private let onBound: @Sendable (Int) async -> Void

    /// - Parameters:
    ///   - feed: has to run beside the server.
    ///   - webhooks: takes what webhooks are sent by hand; nil where nobody does.
    ///   - queues: how the broker's queues are looked at; nil where nobody can.
    ///   - onBound: called with the port once it can be reached.
    package init(
        configuration: DashboardConfiguration, ledger: LedgerReader, journal: IngestJournalReader, store: MonitorStore,
        sender: any CommandSender, webhooks: (any WebhookSender)? = nil, webhookVitals: WebhookVitals = WebhookVitals(), feed: FactFeed,
        queues: (any BrokerQueues)? = nil,
        vitals: RouterVitals = RouterVitals(), logger: Logger,
        onBound: @escaping @Sendable (Int) async -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.ledger = ledger
        self.journal = journal
        self.store = store
        self.sender = sender
        self.webhooks = webhooks
        self.webhookVitals = webhookVitals
        self.feed = feed
        self.queues = queues
        self.vitals = vitals
        bulk = BulkRunner(ledger: ledger, store: store, sender: sender, feed: feed, logger: logger)
        durations = Durations(ledger: ledger, feed: feed, logger: logger)
        ended = EndedBars(ledger: ledger)
        self.logger = logger
        self.onBound = onBound
    }

    /// - Throws: `DashboardError` when the address cannot be bound.
    package func run() async throws {
        let configuration = configuration
        let application = Application(
            router: try routing().router,
            configuration: ApplicationConfiguration(address: .hostname(configuration.host, port: configuration.port), serverName: nil),
            onServerRunning: { [logger, onBound] channel in
                let port = channel.localAddress?.port ?? configuration.port
                logger.info("Monitor is listening", metadata: ["host": "\(configuration.host)", "port": "\(port)"])
                await onBound(port)
            },
            logger: Self.quiet(logger)
        )
        // They end with the server, whether that ends well or not.
        async let work: Void = bulk.run()
        async let measuring: Void = durations.run()
        async let looking: Void = ended.prepare()
        do {
            try await application.run()
        } catch let error as IOError {
            throw bindError(error)
        }
        await work
        await measuring
        await looking
    }

    /// All routes, and what decides who may use them.
    func routing() throws -> (router: Router<DashboardContext>, roles: RouteRoles) {
        let pages = try PageRenderer()
        let access = try Access(configuration: configuration, store: store)
        let commands = Commands(ledger: ledger, sender: sender, store: store, logger: logger)
        let folders = [
            ("DATA", configuration.data), ("LOGS", configuration.logs), ("STATE", URL(filePath: ledger.path).deletingLastPathComponent()),
        ]
        let overview = Self.overview(ledger, journal, feed, folders)
        let reads = SharedReads(
            version: { [feed] in feed.latest }, required: { [feed] in max(feed.latestCommand, $0.map(feed.latest(ofRun:)) ?? 0) })
        let explanations = Explanations(ledger: ledger, overview: overview)
        let parked = ParkedMessages(ledger: ledger, store: store, commands: commands)
        let reveal = RevealController(ledger: ledger, access: access)
        let desk = BulkDesk(ledger: ledger, store: store, runner: bulk)
        let webhookDesk = WebhookDesk(store: store, ledger: ledger, sender: webhooks, address: configuration.address, logger: logger)
        let api = APIRoutes(
            APIController(
                ledger: ledger, configuration: configuration, commands: commands, feed: feed, bulk: bulk, overview: overview,
                explanations: explanations, ended: ended, reads: reads
            ).routes + BulkController(desk: desk, store: store).routes
                + reveal.routes + parked.routes + AuditAPI(store: store).routes + WebhookAPI(desk: webhookDesk).routes)
        let roles = RouteRoles(api)
        let router = Router(context: DashboardContext.self, options: .autoGenerateHeadEndpoints)
        router.addMiddleware {
            SecurityHeaders()
            Errors(pages: pages, methods: api.methods)
            HostCheck(access: access)
            Authentication(access: access, roles: roles)
        }
        SignIn(access: access, pages: pages).addRoutes(to: router)
        HealthController(ledger: ledger, sender: sender, feed: feed, overview: overview, durations: durations, vitals: vitals, store: store)
            .addRoutes(to: router)
        api.add(to: router)
        FileController(ledger: ledger, configuration: configuration, pages: pages).addRoutes(to: router)
        let controller = PageController(
            ledger: ledger, configuration: configuration, commands: commands, feed: feed, overview: overview, explanations: explanations,
            pages: pages, access: access, reads: reads, ended: ended, broker: queues.map(QueueDepths.init),
            vitals: vitals, webhooks: webhookVitals
        )
        controller.addRoutes(to: router)
        reveal.addRoutes(to: router)
        parked.addRoutes(to: router, pages: controller)
        AccountPages(access: access, pages: controller).addRoutes(to: router)
        UserPages(access: access, pages: controller).addRoutes(to: router)
        AuditPages(store: store, pages: controller).addRoutes(to: router)
        BulkPages(desk: desk, pages: controller).addRoutes(to: router)
        WebhookPages(desk: webhookDesk, pages: controller).addRoutes(to: router)
        return (router, roles)
    }

    /// Every page shows something of it and few more than that, so nobody waits for the newest: who follows the facts comes again.
    private static func overview(
        _ ledger: LedgerReader, _ journal: IngestJournalReader, _ feed: FactFeed, _ folders: [(name: String, url: URL)]
    ) -> Recent<Overview> {
        Recent(
            for: .seconds(1), spacing: .milliseconds(500), patience: .seconds(1), version: { feed.latest },
            required: { feed.latestCommand }
        ) {
            try await Overview.read(ledger, journal, folders: folders)
        }
    }

    private func bindError(_ error: IOError) -> DashboardError {
        let place = "\(configuration.host):\(configuration.port)"
        if error.errnoCode == EADDRINUSE {
            return DashboardError(
                code: .portInUse,
                message:
                    "Port \(configuration.port) on \(configuration.host) is in use by another program. Set MONITOR_PORT to a free port.")
        }
        return DashboardError(
            code: .cannotBind,
            message: "The monitor cannot listen on \(place): \(error). Set MONITOR_HOST and MONITOR_PORT to an address of this machine.")
    }

    /// The server's own lines about each connection are for those who look for them.
    private static func quiet(_ logger: Logger) -> Logger {
        var logger = logger
        if logger.logLevel == .info { logger.logLevel = .notice }
        return logger
    }
}

import Foundation
import Hummingbird
import JobStore
import Jobs
import Pipeline

/// The pages. Each is one GET that reads the ledger and renders a template; each change is a form.
struct PageController: Sendable {
    let ledger: LedgerReader
    let configuration: DashboardConfiguration
    let commands: Commands
    let feed: FactFeed
    let overview: Recent<Overview>
    let explanations: Explanations
    let pages: PageRenderer
    let access: Access
    let reads: SharedReads
    let ended: EndedBars
    let broker: QueueDepths?
    let vitals: RouterVitals
    let webhooks: WebhookVitals

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/", use: showOverview)
        router.get("/runs", use: showRuns)
        router.get("/runs/:id", use: showRun)
        router.get("/jobs/:id", use: showJob)
        router.get("/jobs/:id/log", use: showLogTail)
        router.get("/workers", use: showWorkers)
        router.get("/queues", use: showQueues)
        router.get("/services", use: showServices)
        router.get("/dead", use: showDead)
        router.get("/events", use: showEvents)
        router.post("/runs/:id/retry") { try await act(.retryRun, "/runs", $0, $1) }
        router.post("/runs/:id/cancel") { try await act(.cancelRun, "/runs", $0, $1) }
        router.post("/runs/:id/reprocess") { try await act(.reprocessRun, "/runs", $0, $1) }
        router.post("/jobs/:id/retry", use: retryJob)
        router.post("/jobs/:id/discard") { try await act(.discardJob, "/jobs", $0, $1) }
        router.post("/services/:id/pause") { try await act(.pauseService, nil, $0, $1) }
        router.post("/services/:id/resume") { try await act(.resumeService, nil, $0, $1) }
        router.post("/jobs/:id/cancel") { try await act(.cancelJob, "/jobs", $0, $1) }
        router.post("/jobs/:id/rerun") { try await act(.rerunJob, "/jobs", $0, $1) }
        router.post("/jobs/:id/priority") { try await act(.setPriority, "/jobs", $0, $1) }
        router.post("/workers/:id/drain") { try await act(.drainWorker, nil, $0, $1) }
        router.post("/workers/:id/resume") { try await act(.resumeWorker, nil, $0, $1) }
        router.post("/channels/:id/pause") { try await act(.pauseChannel, nil, $0, $1) }
        router.post("/channels/:id/resume") { try await act(.resumeChannel, nil, $0, $1) }
    }

    /// - Parameter folder: where the target's own page is; nil for channels, services and workers, which share one.
    func act(
        _ action: CommandMessage.Action, _ folder: String?, _ request: Request, _ context: DashboardContext
    ) async throws -> Response {
        let identity = try context.requireIdentity()
        let target = try context.parameters.require("id")
        _ = try await commands.send(
            action, target: target, priority: context.form["priority"],
            attempt: action == .discardJob ? try JobOrder.attempt(context.form["attempt"]) : nil, by: identity)
        let list =
            switch action {
            case .drainWorker, .resumeWorker: "/workers"
            case .pauseService, .resumeService: "/services"
            default: "/queues"
            }
        let page = folder.map { "\($0)/\(target)" } ?? list
        return .redirect(to: "\(page)?done=\(action.rawValue)")
    }

    /// What an action's page says afterwards. Only our own words: the address is anybody's.
    private static func notice(_ request: Request) -> String? {
        if request.query("done") == "reveal" { return "Revealed, and recorded in the audit." }
        guard let done = request.query("done").flatMap(CommandMessage.Action.init(rawValue:)) else { return nil }
        return switch done {
        case .retryJob, .retryRun: "Retry requested. The router starts it in a moment."
        case .cancelJob, .cancelRun: "Cancellation requested. What runs is stopped in a moment."
        case .rerunJob: "Another run requested. The router starts it in a moment."
        case .setPriority: "Priority change requested. It takes effect in a moment."
        case .reprocessRun: "Reprocessing requested. The new run appears below in a moment."
        case .discardJob: "Discard requested. The job leaves the dead letters in a moment; a retry brings it back."
        case .pauseService: "Pause requested. What runs goes on; nothing new of the service starts."
        case .requeueMessage: "Requeue requested. A message leaves the list when the broker has confirmed it."
        case .discardMessage: "Discard requested. It is done in a moment."
        case .pauseChannel: "Pause requested. What runs goes on; nothing new starts."
        case .resumeChannel, .resumeService: "Resume requested. Waiting jobs start in a moment."
        case .drainWorker: "Drain requested. The worker finishes what it runs and takes nothing new."
        case .resumeWorker: "Resume requested. The worker takes jobs again in a moment."
        }
    }

    /// For one page: begins before anything of it is read.
    func pageReads() async throws -> PageReads { PageReads(reads, overview, from: try await feed.newest()) }

    /// - Parameter reads: what the page's own parts were read with.
    func frame(_ current: String, _ request: Request, run: String? = nil, _ reads: PageReads? = nil) async throws -> PageFrame {
        var frame = PageFrame()
        frame.run = run
        frame.notice = Self.notice(request)
        var reads = if let reads { reads } else { try await pageReads() }
        let overview = try await reads.overview()
        // What happened since then is told to the page again, and it comes for it. The answer to a form has no address to come to.
        if request.method != .post { frame.fact = String(reads.fact) }
        let troubled = overview.services.count { $0.condition == .error }
        let dead = overview.totals.jobs(.dead) + overview.totals.deadMessages
        frame.links = PageFrame.links(current: current, troubled: troubled, dead: dead)
        let now = Date()
        frame.asOf = Markup.time(now)
        frame.alarms = Alarms.of(
            overview, isConnected: await commands.sender.isConnected, routerSilentSince: vitals.silentSince(at: now), at: now)
        if let alarm = webhooks.alarm(at: now) { frame.alarms.append(alarm) }
        frame.alarms += (try? await access.store.webhooks())?.compactMap(\.alarm) ?? []
        return frame
    }
}

/// One of the ways to look at a list.
struct PageTab {
    var title: String
    var url: String
    /// How many there are; nil where that is not shown.
    var count: String?
    var isCurrent: Bool
}

/// A page of a list and the way to the next.
struct PagerModel {
    var first: String?
    var next: String?
    /// There is a way.
    var isShown: Bool
    /// Of what there is more, for those who hear the page.
    var label: String

    /// - Parameter path: the list's address with its filters, without a cursor.
    init(_ path: String, _ cursor: String?, _ next: String?, parameter: String = "cursor", label: String = "More") {
        self.label = label
        let glue = path.contains("?") ? "&" : "?"
        first = cursor == nil ? nil : path
        isShown = first != nil || next != nil
        self.next = next.map { "\(path)\(glue)\(parameter)=\($0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")" }
    }

    static func path(_ base: String, _ fields: [(String, String?)]) -> String {
        let pairs = fields.compactMap { name, value in
            value.map { "\(name)=\($0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")" }
        }
        return pairs.isEmpty ? base : base + "?" + pairs.joined(separator: "&")
    }
}

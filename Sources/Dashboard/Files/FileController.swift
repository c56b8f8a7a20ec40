import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import NIOCore

/// Files that jobs made, and the files that the pages are made of.
struct FileController: Sendable {
    let ledger: LedgerReader
    let configuration: DashboardConfiguration
    let pages: PageRenderer
    private let files = FileIO()

    init(ledger: LedgerReader, configuration: DashboardConfiguration, pages: PageRenderer) {
        self.ledger = ledger
        self.configuration = configuration
        self.pages = pages
    }

    func addRoutes(to router: Router<DashboardContext>) {
        router.get("/artifacts/:job/**", use: artifact)
        router.get("/assets/:name", use: asset)
    }

    @Sendable private func artifact(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let job = try context.parameters.require("job")
        let prefix = "/artifacts/\(job)/"
        guard let path = String(request.uri.path.dropFirst(prefix.count)).removingPercentEncoding,
            let attempts = try await ledger.attempts(ofJob: job),
            let artifact = JobArtifact.all(of: attempts, job: job).first(where: { $0.path == path })
        else { throw Problem.notFound("No job handed over this file.") }
        guard let file = ConfinedFile.resolve(artifact.path, in: configuration.data) else {
            throw Problem.notFound("The file that the job handed over is no longer there.")
        }
        let body = try await files.loadFile(path: file, context: context)
        let name = artifact.path.split(separator: "/").last.map(String.init) ?? "artifact"
        let saved = name.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(CharacterSet(charactersIn: "-._"))) ?? "artifact"
        return Response(
            status: .ok,
            headers: [
                .contentType: artifact.contentType,
                .contentDisposition: "\(artifact.isShownInline ? "inline" : "attachment"); filename*=UTF-8''\(saved)",
                .contentSecurityPolicy: "default-src 'none'; sandbox",
            ],
            body: body
        )
    }

    @Sendable private func asset(_ request: Request, _ context: DashboardContext) async throws -> Response {
        let name = try context.parameters.require("name")
        guard let asset = pages.files[name] else { throw Problem.notFound("There is no file '\(name)'.") }
        let isCurrent = request.query("v") == asset.version
        return Response(
            status: .ok,
            headers: [.contentType: asset.type, .cacheControl: isCurrent ? "public, max-age=31536000, immutable" : "no-cache"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: asset.bytes))
        )
    }
}

import Bootstrap
import Foundation
import Jobs
import Orthanc

/// The Orthanc servers that this worker knows, each with the connections that its exports share.
struct ExportServers: Sendable {
    private let clients: [String: OrthancClient]
    private let servers: OrthancServers

    init(_ servers: OrthancServers, connections: Int) {
        self.servers = servers
        var configuration = OrthancClient.Configuration()
        configuration.parallelism = connections
        clients = servers.endpoints.reduce(into: [:]) { clients, endpoint in
            clients[endpoint.name] = OrthancClient(endpoint: endpoint, configuration: configuration)
        }
    }

    func client(_ name: String) throws(UnknownServer) -> OrthancClient {
        guard let client = clients[name] else { throw UnknownServer(name: name, known: clients.keys.sorted()) }
        return client
    }

    /// What a job is told in its environment of the server that its images came from, so that results go back to that one.
    ///
    /// Every variable is set in every case: one that the worker itself has may belong to another server.
    func environment(_ name: String) -> [String: String] {
        let server = servers[name]
        return [
            "ORTHANC_SERVER": name,
            "ORTHANC_REST_URL": server?.url.absoluteString ?? "",
            "ORTHANC_REST_USERNAME": server?.user ?? "",
            "ORTHANC_REST_PASSWORD": server?.password ?? "",
        ]
    }
}

struct UnknownServer: Error, CustomStringConvertible {
    var name: String
    var known: [String]

    var description: String {
        "The images are on the Orthanc server '\(name)', and this worker knows only \(known.joined(separator: ", ")). "
            + "Give the workers the same ORTHANC_URLS as ingest, then retry the job."
    }
}

extension ExportServers {
    /// ``OrthancServers`` lists the variables of the servers.
    /// - `EXPORT_CONNECTIONS` (int, 8): connections to each server, shared by the exports of this worker, 1 to 32.
    init(_ settings: Settings) throws {
        let servers: OrthancServers
        do {
            servers = try OrthancServers { settings.text($0, isSecret: true) }
        } catch let error as OrthancServers.Invalid {
            throw SettingError(variable: error.variable, value: nil, allowed: error.allowed)
        }
        self.init(servers, connections: try settings.integer("EXPORT_CONNECTIONS", default: 8, in: 1...32))
    }
}

extension InstanceExport.Configuration {
    /// - `EXPORT_RESERVE` (bytes, `256M`): what must stay free on the disk of DATA besides the images. An export that would leave less does
    ///   not start.
    init(_ settings: Settings) throws {
        self.init()
        guard let text = settings.text("EXPORT_RESERVE") else { return }
        guard let bytes = ByteCount.parse(text) else {
            throw SettingError(variable: "EXPORT_RESERVE", value: text, allowed: "bytes such as 256M or 10G")
        }
        reserve = bytes
    }
}

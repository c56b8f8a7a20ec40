import Bootstrap
import Jobs
import Orthanc

/// The Orthanc servers that this worker knows, each with the connections that its exports share.
struct ExportServers: Sendable {
    private let clients: [String: OrthancClient]

    init(_ servers: OrthancServers, connections: Int) {
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

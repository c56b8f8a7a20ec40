import AMQP
import Bootstrap
import JobStore
import Orthanc
import Pipeline
import ServiceLifecycle

/// The services of the ingest process, dependencies first.
func buildIngest(_ context: ServiceContext) throws -> [any Service] {
    let configuration = try IngestConfiguration(settings: context.settings)
    let endpoints = try OrthancServers(settings: context.settings).endpoints
    let journal = try IngestJournal(folder: context.folders.state)
    var connection = try context.broker()
    // Short, so that the monitor soon shows that events wait; they are published again until the broker has them.
    connection.publishTimeout = Pace.scaled(.seconds(10))
    let broker = AMQPClient(configuration: connection, topology: PipelineTopology.ingest(), logger: context.logger)
    let servers = endpoints.map { endpoint in
        FollowedServer(
            client: OrthancClient(endpoint: endpoint),
            configuration: configuration,
            journal: journal,
            publisher: BrokerEventPublisher(client: broker),
            ledger: LedgerEventLookup(folder: context.folders.state),
            logger: context.logger
        )
    }
    guard let address = try EndpointConfiguration(settings: context.settings) else {
        return [context.readiness, broker, IngestService(servers: servers, onFollowing: context.readiness.markReady)]
    }
    let endpoint = EndpointServer(configuration: address, servers: servers, logger: context.logger)
    let ingest = IngestService(servers: servers) { [readiness = context.readiness] in
        // Whoever waits for ingest expects to find its endpoint.
        if endpoint.port != nil { readiness.markReady() }
    }
    return [context.readiness, broker, ingest, endpoint]
}

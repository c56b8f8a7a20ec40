import AMQP
import Bootstrap
import Foundation
import Orthanc
import Pipeline
import PythonHost
import ServiceLifecycle

/// The worker's services, dependencies first.
func buildWorker(_ context: ServiceContext) async throws -> [any Service] {
    let configuration = try WorkerConfiguration(context.settings)
    // Services may write logs of their own there, as upstream's do. Whether it worked, the first job says.
    try? FileManager.default.createDirectory(at: context.folders.logs, withIntermediateDirectories: true)
    let broker = AMQPClient(
        configuration: try context.broker(),
        topology: PipelineTopology.worker(id: configuration.id, channels: configuration.channels),
        logger: context.logger
    )
    let python = PythonHostConfiguration(
        python: context.python,
        hostPath: context.pythonPath,
        root: context.folders.modules,
        environment: context.userCodeEnvironment
    )
    let runner = JobDispatcher(
        export: ExportJob(
            servers: try ExportServers(context.settings),
            configuration: try InstanceExport.Configuration(context.settings),
            data: context.folders.data,
            logger: context.logger
        ),
        python: PythonJobs(
            hosts: WarmHosts(configuration: python, logger: context.logger),
            configuration: python,
            environments: ServiceEnvironments(
                configuration: try EnvironmentsConfiguration(context.settings, context.folders, python), logger: context.logger),
            folders: context.folders,
            killGrace: configuration.killGrace,
            niceness: configuration.niceness
        ),
        resources: ResourceTokens(memory: configuration.memory, devices: configuration.gpus)
    )
    let worker = WorkerService(
        configuration: configuration,
        source: BrokerSource(broker: broker),
        router: BrokerLink(broker: broker),
        runner: runner,
        readiness: context.readiness,
        logger: context.logger
    )
    return [ImpatientSignal { worker.stopNow() }, context.readiness, broker, worker]
}

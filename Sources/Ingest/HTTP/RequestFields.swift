import Foundation
import Jobs
import Orthanc

/// The few members of a JSON object that the endpoint reads, whatever else is in it.
///
/// Hooks post the headers of images: text of any alphabet, sometimes not even valid UTF-8. None of it gets into an error.
struct RequestFields: Sendable {
    private let members: [String: Field]

    /// - Throws: ``EndpointProblem`` when it is not a JSON object.
    init(_ body: Data) throws {
        let decoder = JSONDecoder()
        if let members = try? decoder.decode(Members.self, from: body) {
            self.members = members.fields
        } else if let members = try? decoder.decode(Members.self, from: Data(String(decoding: body, as: UTF8.self).utf8)) {
            // Bytes that are no UTF-8 have become U+FFFD; an id has none.
            self.members = members.fields
        } else {
            throw EndpointProblem.badRequest(
                "The request's body (\(body.count) bytes) is not a JSON object; send one, for example {\"id\": \"<Orthanc's id>\"}.")
        }
    }

    /// The id in the first of these members that is there.
    func identifier(_ names: [String]) throws -> OrthancID {
        guard let (name, field) = names.lazy.compactMap({ name in members[name].map { (name, $0) } }).first else {
            throw EndpointProblem.badRequest("The member '\(names[0])' is missing; it has to be the resource's Orthanc id.")
        }
        guard case .text(let text) = field, let id = OrthancID(rawValue: text) else {
            throw EndpointProblem.badRequest(
                "The member '\(name)' is \(field.kind); it has to be an Orthanc id: five groups of eight hexadecimal digits.")
        }
        return id
    }

    func text(_ name: String) throws -> String? {
        switch members[name] {
        case nil, .null: return nil
        case .text(let text): return text
        case let field?: throw EndpointProblem.badRequest("The member '\(name)' is \(field.kind); it has to be a text.")
        }
    }

    func flag(_ name: String) throws -> Bool {
        switch members[name] {
        case nil, .null: return false
        case .flag(let value): return value
        case let field?: throw EndpointProblem.badRequest("The member '\(name)' is \(field.kind); it has to be true or false.")
        }
    }

    private enum Field: Decodable {
        case null, flag(Bool), number, text(String), list, object

        init(from decoder: any Decoder) throws {
            if (try? decoder.unkeyedContainer()) != nil {
                self = .list
                return
            }
            let value = try decoder.singleValueContainer()
            if value.decodeNil() {
                self = .null
            } else if let flag = try? value.decode(Bool.self) {
                self = .flag(flag)
            } else if let text = try? value.decode(String.self) {
                self = .text(text)
            } else if (try? value.decode(Double.self)) != nil {
                self = .number
            } else {
                self = .object
            }
        }

        /// What it is, without what it says.
        var kind: String {
            switch self {
            case .null: "null"
            case .flag: "true or false"
            case .number: "a number"
            case .text(let text): "a text of \(text.utf8.count) bytes"
            case .list: "a list"
            case .object: "an object"
            }
        }
    }

    /// Only the members that are asked for: a header may have thousands of others.
    private struct Members: Decodable {
        enum Key: String, CodingKey, CaseIterable {
            case id, seriesId, studyId, patientId, level, server, replay, bulk
        }

        var fields: [String: Field] = [:]

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            for key in Key.allCases where container.contains(key) { fields[key.rawValue] = try container.decode(Field.self, forKey: key) }
        }
    }
}

import Configuration
import Control
import Core
import HTTPService
import Rollouts

/// What is asked of rollouts.
extension AdminServer {
    /// The model of that name; nil once the answer says that there is none.
    private func model(_ name: String, _ response: ResponseWriter) -> ModelResource? {
        let models = self.control.configuration.models
        // On a cluster of any namespace; the name is no other model's.
        if let model = models.first(where: { $0.name == name }) { return model }
        let known = models.map(\.name)
        let names = known.isEmpty ? "are none" : "are \(known.joined(separator: ", "))"
        response.refuse(status: 404, "there is no model `\(name)`; there \(names)")
        return nil
    }

    /// Whether rollouts are asked about elsewhere; then the answer has said where.
    private func isElsewhere(_ response: ResponseWriter) -> Bool {
        guard let why = self.control.rolloutsElsewhere() else { return false }
        response.refuse(status: 409, why)
        return true
    }

    func answerRollout(_ name: String, _ response: ResponseWriter) {
        guard let model = self.model(name, response), !self.isElsewhere(response) else { return }
        guard let document = RolloutDocument(self.control, model.name) else {
            return response.refuse(
                status: 404,
                "\(name) has no rollouts: name a RolloutPolicy in its `rollout.policy`"
            )
        }
        response.respond { document.write(to: &$0) }
    }

    /// - Parameter query: `rollout=N`, or nothing for the last one.
    func answerTimeline(_ name: String, query: String?, _ response: ResponseWriter) {
        guard let model = self.model(name, response), !self.isElsewhere(response) else { return }
        let controller = self.control.rollouts?.controller(of: model.name)
        var number: Int?
        if let query {
            guard query.hasPrefix("rollout="), let asked = Int(query.dropFirst(8)), asked > 0 else {
                return response.refuse(status: 400, "write `rollout=N` behind the question mark")
            }
            number = asked
        }
        var timeline = controller?.timeline
        if let number, number != timeline?.rollout {
            timeline = self.control.rolloutStore?.timeline(of: model.name, rollout: number)
        }
        guard let timeline else {
            let which = number.map { "rollout \($0) of \(name) is not kept" }
            return response.refuse(status: 404, which ?? "\(name) had no rollout yet")
        }
        response.respond { TimelineDocument.write(timeline, to: &$0) }
    }

    func setLive(_ name: String, _ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        let variant: String
        do throws(JSONError) {
            variant = try request.withBody { (bytes) throws(JSONError) in
                try LiveRequest.parse(bytes)
            }
        } catch {
            return response.refuse(status: 400, "\(error)")
        }
        self.perform(.start(variant: variant), name, response)
    }

    func promote(_ name: String, _ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        let isFull: Bool
        do throws(JSONError) {
            isFull = try request.withBody { (bytes) throws(JSONError) in
                try PromoteRequest.parse(bytes)
            }
        } catch {
            return response.refuse(status: 400, "\(error)")
        }
        self.perform(.promote(full: isFull), name, response)
    }

    func perform(_ command: RolloutCommand, _ name: String, _ response: ResponseWriter) {
        guard let model = self.model(name, response) else { return }
        if case .start(let variant) = command, model.spec.variant(named: variant) == nil {
            let names = model.spec.variants.map(\.name).joined(separator: ", ")
            return response.refuse(
                status: 404,
                "\(name) has no variant `\(variant)`; there are \(names)"
            )
        }
        do throws(RolloutRefusal) {
            try self.control.perform(command, of: model)
        } catch {
            return response.refuse(status: 409, error.description)
        }
        self.answerRollout(name, response)
    }
}
